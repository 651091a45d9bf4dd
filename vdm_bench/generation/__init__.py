"""Files of sampled clips: the work of `vdm-bench sample`."""

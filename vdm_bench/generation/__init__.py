"""`vdm-bench sample`: clips of the reference model, as many as wanted, in a folder."""

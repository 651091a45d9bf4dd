"""What every long job needs: files from outside, checksums of what is stored, locks."""

"""What pages are made of: templates of jinja2, one style and one script."""

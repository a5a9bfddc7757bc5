"""The verbs: what the command line, a page and a notebook call."""

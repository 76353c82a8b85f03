"""Pages: what a browser shows of a job. No request leaves them, no script is needed, and what comes from the mount is text."""

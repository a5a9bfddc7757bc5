"""The page: a server on this computer, one worker process a job, and a static page that shows scans before and after."""

"""One module a group of routes: a request in, a task for a worker, an answer out."""

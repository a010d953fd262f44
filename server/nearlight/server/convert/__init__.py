"""Between the wire's messages and the server's own words: the only place that knows both."""

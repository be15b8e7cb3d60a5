"""One message to many sockets: what a socket needs to be published to."""

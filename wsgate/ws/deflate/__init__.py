"""The extension permessage-deflate (RFC 7692)."""

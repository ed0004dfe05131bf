"""Headers that every answer has: of a view, of a middleware, of what stands before Django."""

# Set where nobody said otherwise. What no page of ours is executes nothing and stands in no frame.
DEFAULT_HEADERS = {
    "Cache-Control": "private, no-cache",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

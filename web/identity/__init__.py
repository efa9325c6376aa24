"""Who a request comes from: what it shows for itself, and what that is worth."""

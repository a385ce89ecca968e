"""The local AWS's Lambda: sandboxes that run container images, the queue of asynchronous events, and the hooks into moto."""

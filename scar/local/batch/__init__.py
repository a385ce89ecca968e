"""The local AWS's Batch: compute environments, queues, job definitions, and jobs that really run. Nothing of moto's is used but its lookups.

POST /v1/<action> ─► service ─► control plane (environments, queues, definitions, tags)
                           └─► jobs ─► scheduler ─► attempt in a sandbox ─► logs, exit code, events
                                              └─► gang: an attempt for each node, on a network of their own
"""

"""IAM of the local AWS, when it is asked for (`--iam`): who asks, what is asked for, and whether policies allow it."""

"""HTTP endpoints of the local AWS: REST APIs of API Gateway and Function URLs, served as AWS serves them."""

"""The zip runtime: functions for accounts without ECR, whose image is unpacked in Lambda."""

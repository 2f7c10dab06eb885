"""What a job is, and its bytes on disk: options, statuses, the folder, durable writes. No HTTP."""

"""Where Polylog differs from RabbitMQ 3.10 on purpose: scenario -> label -> what either shows, and
why. A difference that is listed and no longer there fails, as does one that isn't listed."""

DIFFERENCES = {}

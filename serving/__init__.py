"""The serving process: answers `POST /v1/predictions` from verified bundles, whatever breaks behind it."""

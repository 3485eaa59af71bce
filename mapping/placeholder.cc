// placeholder, removed once this layer has sources

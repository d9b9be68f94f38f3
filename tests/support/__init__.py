"""What tests share: fleets, browsers, faulty servers."""

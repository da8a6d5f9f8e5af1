"""Feature views: folds over a log that answer 'how often, how much, how far, lately' for an entity, now and for any past."""

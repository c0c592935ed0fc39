-- The log, by what people look for in it: each narrows to few rows, which are then in the order of their numbers.

CREATE INDEX event_by_type ON event (organization_id, type, number);
CREATE INDEX event_by_subject ON event (organization_id, subject_kind, subject_id, number);
CREATE INDEX event_by_user ON event (organization_id, actor_user_id, number) WHERE actor_user_id IS NOT NULL;
CREATE INDEX event_by_time ON event (organization_id, occurred_at, number);

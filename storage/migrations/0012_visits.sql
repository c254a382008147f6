-- How often a card came: `actors.visits.Visits` as a JSON array, '' for a card that never did. Whoever changes it tells
-- all of it, so it is one column.
ALTER TABLE cards ADD COLUMN visits text NOT NULL DEFAULT '';

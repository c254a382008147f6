-- What rules know of a card's holder (`actors.profiles.Profile` as a JSON array, '' for nothing), and the birthday: the
-- local day on which it comes next (yyyymmdd, 0: never), when that begins, and the year in which it came last.
ALTER TABLE cards
    ADD COLUMN profile text NOT NULL DEFAULT '',
    ADD COLUMN birthday_on integer NOT NULL DEFAULT 0,
    ADD COLUMN birthday_due_ms bigint NOT NULL DEFAULT 0,
    ADD COLUMN birthday_year integer NOT NULL DEFAULT 0;

-- Cards are told of the members that are there already (gateway/members/names.py).
UPDATE members SET cards_behind = true WHERE erased_at_ms IS NULL AND (birthday IS NOT NULL OR attributes <> '{}');

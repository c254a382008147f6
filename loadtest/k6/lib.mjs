// What the k6 scripts have in common. Pure: neither k6 nor a clock is asked here, so node runs it, too.

// Of the peak, at which part of the evening: few before the doors open, a steep rise, a plateau, a slow fall. The same
// points as in loadtest/client/arrivals.py.
const DOORS = [[0, 0.2], [0.35, 1.9], [0.5, 1.9], [1, 0.2]];
const PEAK = 1.9;

/** How high the load is at `part` (0 to 1) of the evening, 1 at its peak. */
export function height(part) {
  const at = Math.min(1, Math.max(0, part));
  for (let point = 1; point < DOORS.length; point += 1) {
    const [begin, low] = DOORS[point - 1];
    const [end, high] = DOORS[point];
    if (at <= end) return (low + ((high - low) * (at - begin)) / (end - begin)) / PEAK;
  }
  return DOORS[DOORS.length - 1][1] / PEAK;
}

/** The evening as stages of k6's ramping executors, and the rate to begin with; whole numbers, at least one. */
export function stages(peak, seconds) {
  const rate = (part) => Math.max(1, Math.round(peak * height(part)));
  const steps = DOORS.slice(1).map(([end], index) => ({
    target: rate(end),
    duration: `${Math.round(1000 * seconds * (end - DOORS[index][0]))}ms`,
  }));
  return { startRate: rate(0), stages: steps };
}

const hex = (number, digits) => number.toString(16).padStart(digits, '0');

/** A UUIDv7 (RFC 9562, 5.7) from milliseconds since 1970 and a source of random numbers in [0, 1). */
export function requestId(nowMs, random) {
  const below = (count) => Math.floor(random() * count);
  const time = hex(nowMs, 12);
  const tail = hex(below(2 ** 24), 6) + hex(below(2 ** 24), 6);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex(below(4096), 3)}-${hex(8 + below(4), 1)}${hex(below(4096), 3)}-${tail}`;
}

/** The card (its place in a list of `cardCount`) and the direction of guest `number`: all go in, then all out, and again. */
export function guest(number, cardCount) {
  return { card: number % cardCount, direction: Math.floor(number / cardCount) % 2 === 0 ? 'entry' : 'exit' };
}

/**
 * The guests of one of `count` scanners: a function that gives the next one's place in the list of cards, and the
 * direction. Each scanner has cards of its own.
 */
export function guests(cardCount, scanner, count) {
  const own = [];
  for (let card = scanner % count; card < cardCount; card += count) own.push(card);
  if (own.length === 0) own.push(scanner % cardCount);
  let number = -1;
  return () => {
    number += 1;
    const { card, direction } = guest(number, own.length);
    return { card: own[card], direction };
  };
}

/** All scanners of a fixtures file, those of one event not next to each other. */
export function scanners(fixtures) {
  const found = [];
  const most = Math.max(...fixtures.events.map((event) => event.scanners.length));
  for (let place = 0; place < most; place += 1) {
    for (const event of fixtures.events) {
      if (place < event.scanners.length) found.push({ event: event.id, token: event.scanners[place].token });
    }
  }
  return found;
}

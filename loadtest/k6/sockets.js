// Doors over sockets: SOCKETS scanners are connected all evening, and guests come along its curve.
//
//   k6 run -e FIXTURES=$PWD/fixtures.json -e SOCKETS=50 -e RATE=500 -e SECONDS=60 loadtest/k6/sockets.js
//
// RATE is the peak of check-ins a second over all sockets. A guest is scanned when they are due, whether or not the one
// before has an answer. A refused scan is an answer. What fails a run (status 99): a scan without a verdict, an error
// frame, a socket that ends early.

import { SharedArray } from 'k6/data';
import exec from 'k6/execution';
import { Counter, Rate, Trend } from 'k6/metrics';
import { WebSocket } from 'k6/websockets';
import { guests, height, requestId, scanners } from './lib.mjs';

const RATE = Number(__ENV.RATE || 100);
const SECONDS = Number(__ENV.SECONDS || 60);
const SOCKETS = Number(__ENV.SOCKETS || 10);
const LAST_ANSWERS_MS = 10_000;
const AT_ONCE_MAX = 1_000; // the welcome's max_in_flight is 1,024

const read = () => JSON.parse(open(__ENV.FIXTURES || 'fixtures.json'));
const cards = new SharedArray('cards', () => read().cards.map((card) => card.credential));
const [fixtures] = new SharedArray('fixtures', () => {
  const { base_url, events } = read();
  return [{ base_url, events }];
});
const url = (__ENV.BASE_URL || fixtures.base_url).replace(/^http/, 'ws') + '/v1/scan';
const doors = scanners(fixtures);

const admitted = new Counter('checkins_admitted');
const refused = new Counter('checkins_refused');
const failed = new Rate('checkins_failed');
const took = new Trend('checkin_duration', true);

export const options = {
  scenarios: {
    doors: {
      executor: 'per-vu-iterations',
      vus: SOCKETS,
      iterations: 1,
      maxDuration: `${SECONDS + 60}s`,
    },
  },
  thresholds: { checkins_failed: ['rate==0'] },
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max', 'count'],
};

/** One scanner's evening. */
export default function () {
  const number = exec.vu.idInTest - 1;
  const { token } = doors[number % doors.length];
  const next = guests(cards.length, number, SOCKETS);
  const waiting = new Map(); // when each scan without a verdict was sent
  const socket = new WebSocket(url, ['mastervip.v1.json'], { headers: { Authorization: `Bearer ${token}` } });
  let beganMs = 0;
  let isOver = false;

  const fail = (count) => { for (let one = 0; one < count; one += 1) failed.add(true); };
  const close = () => {
    isOver = true;
    fail(waiting.size);
    socket.close();
  };
  const scan = () => {
    const part = (Date.now() - beganMs) / (1_000 * SECONDS);
    if (isOver) return;
    if (part >= 1) {
      if (waiting.size === 0) close();
      else setTimeout(close, LAST_ANSWERS_MS);
      return;
    }
    if (waiting.size < AT_ONCE_MAX) {
      const { card, direction } = next();
      const id = requestId(Date.now(), Math.random);
      waiting.set(id, Date.now());
      socket.send(JSON.stringify({ t: 'scan', id, credential: cards[card], direction }));
    }
    setTimeout(scan, (1_000 * SOCKETS) / (RATE * height(part)));
  };
  const onVerdict = ({ id, verdict }) => {
    took.add(Date.now() - waiting.get(id));
    waiting.delete(id);
    failed.add(false);
    (verdict === 'admitted' ? admitted : refused).add(1);
    if (Date.now() - beganMs >= 1_000 * SECONDS && waiting.size === 0) close();
  };

  socket.onopen = () => socket.send(JSON.stringify({ t: 'hello' }));
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    if (frame.t === 'welcome') {
      beganMs = Date.now();
      // Scanners do not begin in the same moment.
      setTimeout(scan, Math.random() * ((1_000 * SOCKETS) / RATE));
    } else if (frame.t === 'verdict') {
      onVerdict(frame);
    } else if (frame.t === 'ping') {
      socket.send(JSON.stringify({ t: 'pong', n: frame.n, now: Date.now() }));
    } else if (frame.t === 'error') {
      waiting.delete(frame.id);
      fail(1);
    }
  };
  socket.onclose = () => {
    if (!isOver) fail(1 + waiting.size);
    isOver = true;
  };
  socket.onerror = ({ error }) => {
    console.error(error);
    if (!isOver) fail(1);
  };
}

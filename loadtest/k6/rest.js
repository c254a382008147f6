// Doors over REST along the curve of an evening, and members' apps where the fixtures have people with an account.
//
//   k6 run -e FIXTURES=$PWD/fixtures.json -e RATE=200 -e SECONDS=60 loadtest/k6/rest.js
//
// RATE is the peak of check-ins a second; members ask half as often. A refused scan is an answer. What fails a run
// (status 99): any request without its answer.

import { check } from 'k6';
import { SharedArray } from 'k6/data';
import exec from 'k6/execution';
import http from 'k6/http';
import { Counter } from 'k6/metrics';
import { guest, requestId, scanners, stages } from './lib.mjs';

const RATE = Number(__ENV.RATE || 100);
const SECONDS = Number(__ENV.SECONDS || 60);
const VUS = Number(__ENV.VUS || Math.max(4, Math.ceil(RATE / 10)));
const SIGNED_IN_MAX = 10; // an address may sign in 30 times a minute

const read = () => JSON.parse(open(__ENV.FIXTURES || 'fixtures.json'));
// One copy for all users: a fixtures file may have 100,000 cards.
const cards = new SharedArray('cards', () => read().cards.map((card) => card.credential));
const [fixtures] = new SharedArray('fixtures', () => {
  const { base_url, org_id, events, members } = read();
  return [{ base_url, org_id, events, members: (members || []).slice(0, SIGNED_IN_MAX) }];
});
const url = (__ENV.BASE_URL || fixtures.base_url) + '/v1';
const doors = scanners(fixtures);

const admitted = new Counter('checkins_admitted');
const refused = new Counter('checkins_refused');

const arrivals = (peak) => ({
  executor: 'ramping-arrival-rate',
  preAllocatedVUs: VUS,
  maxVUs: 4 * VUS,
  ...stages(peak, SECONDS),
});
const scenarios = { doors: { exec: 'scan', ...arrivals(RATE) } };
if (fixtures.members.length > 0) scenarios.members = { exec: 'look', ...arrivals(RATE / 2) };

export const options = {
  scenarios,
  thresholds: { checks: ['rate==1'], http_req_failed: ['rate==0'] },
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max'],
};

const json = (token) => ({
  headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
});

/** Signs the members in; their tokens are good for 15 minutes. */
export function setup() {
  return fixtures.members.map(({ email, password, card_id }) => {
    const body = JSON.stringify({ email, password, org_id: fixtures.org_id });
    const answer = http.post(`${url}/auth/login`, body, json(''));
    check(answer, { 'signed in': ({ status }) => status === 200 });
    return { card: card_id, token: answer.json('access_token') };
  });
}

/** One guest at a door; a card is always shown at the same one. */
export function scan() {
  const { card, direction } = guest(exec.scenario.iterationInTest, cards.length);
  const { event, token } = doors[card % doors.length];
  const scanId = requestId(Date.now(), Math.random);
  const body = JSON.stringify({ event_id: event, credential: cards[card], direction, scan_id: scanId });
  const answer = http.post(`${url}/checkins`, body, json(token));
  const verdict = answer.status === 200 ? answer.json() : {}; // anything else is no verdict
  check(verdict, { 'scan has its verdict': ({ scan_id, verdict: word }) => scan_id === scanId && word !== undefined });
  if (verdict.verdict !== undefined) (verdict.verdict === 'admitted' ? admitted : refused).add(1);
}

/** One look into the app. */
export function look(people) {
  const { card, token } = people[exec.scenario.iterationInTest % people.length];
  const pages = [
    `/cards/${card}/credential?format=rotating`,
    `/cards/${card}/balance`,
    `/cards/${card}/ledger?limit=20`,
    `/leaderboards/points?around=${card}&limit=10`,
  ];
  const page = pages[Math.floor(Math.random() * pages.length)];
  const name = page.replace(card, 'CARD');
  const answer = http.get(url + page, { ...json(token), tags: { name } });
  check(answer, { 'member is answered': ({ status }) => status === 200 });
}

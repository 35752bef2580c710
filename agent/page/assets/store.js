// What is known of the cluster, and who asks for it how often. Events say at once that
// something is new; the rest is asked for again and again.
import {call, by, ago} from './lib.js';

// facts are the newest answers, faults what the last calls failed with.
export const facts = {status: null, members: null, proofs: null, networks: null, endpoints: null, events: [], missing: [], unasked: [], faults: {}, heard: false};

const watchers = new Set();
let told = false;

// watch has f called, once a frame at most, when a fact is new.
export function watch(f) {
	watchers.add(f);
	return () => watchers.delete(f);
}

function tell() {
	if (told) return;
	told = true;
	setTimeout(() => {
		told = false;
		for (const f of watchers) f();
	}, 30);
}

const sources = {
	status: {path: '/v1/status', every: 3000},
	members: {path: '/v1/members', every: 3000, take: l => facts.members = l.sort(by('name'))},
	mesh: {path: '/v1/mesh', every: 3000, take: a => {
		facts.proofs = Object.fromEntries(a.hosts.map(h => [h, []]));
		for (const w of a.ways) facts.proofs[w.from].push({...w.proof, state: w.state});
		facts.unasked = a.unasked || [];
	}},
	networks: {path: '/v1/networks', every: 15000, take: l => facts.networks = l.sort(by('Name'))},
	endpoints: {path: '/v1/endpoints?all=true', every: 15000, take: l => facts.endpoints = l.sort((a, b) => by('name')(a, b) || by('host')(a, b))},
};

// ask asks one source; the next time is set when the answer has come, so that a slow
// agent is not asked more than it can answer.
async function ask(name) {
	const s = sources[name];
	clearTimeout(s.next);
	if (s.busy) {
		s.more = true;
		return;
	}
	s.busy = true;
	try {
		const answer = await call(s.path);
		if (s.take) s.take(answer);
		else facts[name] = answer;
		delete facts.faults[name];
	} catch (e) {
		facts.faults[name] = e;
	}
	s.busy = false;
	tell();
	// Each host is asked for its proofs: of many, less often.
	const many = name === 'mesh' && facts.members ? facts.members.length * 200 : 0;
	const wait = document.hidden ? 60000 : s.more ? 300 : Math.max(s.every, many);
	s.more = false;
	s.next = setTimeout(ask, wait, name);
}

const kept = 2000; // events

// news are the sources that an event of a kind makes old.
const news = kind => /^(endpoint|address|conflict)/.test(kind) ? ['endpoints', 'networks'] : /^network/.test(kind) ? ['networks', 'endpoints', 'status']
	: /^(member|agent)/.test(kind) ? ['members', 'status', 'endpoints', 'mesh'] : /^tunnel|^mtu/.test(kind) ? ['mesh', 'members', 'status'] : ['status'];

let stream;

// follow reads the events of all members since a time back, and goes on.
export function follow(since) {
	if (stream) stream.close();
	clearTimeout(follow.again);
	facts.events = [];
	facts.missing = [];
	facts.since = since;
	const seen = new Set();
	stream = new EventSource(`/v1/events?all=true&follow=true&since=${since}`);
	stream.onopen = () => {
		facts.heard = true;
		tell();
	};
	stream.onmessage = m => {
		if (seen.has(m.data)) return; // read again after the stream was broken
		seen.add(m.data);
		const e = JSON.parse(m.data);
		e.key = `${e.at} ${e.host} ${seen.size}`;
		facts.events.unshift(e);
		if (facts.events.length > kept) facts.events.length = kept;
		if (ago(e.at) < 20) news(e.kind).forEach(soon);
		tell();
	};
	stream.addEventListener('unasked', m => {
		facts.missing = [...facts.missing, JSON.parse(m.data)];
		tell();
	});
	const broken = () => {
		facts.heard = false;
		if (stream.readyState === EventSource.CLOSED) follow.again = setTimeout(follow, 3000, since);
		tell();
	};
	stream.addEventListener('failed', () => {
		stream.close();
		broken();
	});
	stream.onerror = broken;
}

// soon asks a source once for many events that come together.
const due = {};
function soon(name) {
	due[name] = due[name] || setTimeout(() => {
		delete due[name];
		ask(name);
	}, 150);
}

// start begins to ask.
export async function start() {
	await Promise.all([ask('status'), ask('members')]); // the map is shown with these; the rest is more to read
	for (const name of ['endpoints', 'networks', 'mesh']) ask(name);
	follow('1h');
	document.addEventListener('visibilitychange', () => {
		if (!document.hidden) for (const name in sources) ask(name);
	});
}

// What all views share: the library, calls of the API, words and small pieces.
import {h, html, render, useState, useEffect, useLayoutEffect, useMemo, useRef} from './vendor/htm-preact.js';
export {h, html, render, useState, useEffect, useLayoutEffect, useMemo, useRef};

// skew is how far the host's clock is ahead of the browser's, in milliseconds.
let skew = 0;

// Fault is an answer that is an Error of the API, with the command to type next.
export class Fault extends Error {
	constructor(message, hint, code) {
		super(message);
		this.hint = hint;
		this.code = code;
	}
}

const gone = 'The command that served this page has ended.';
const again = 'agentctl ui';

// call does one call of the API. body makes it a POST.
export async function call(path, body, signal) {
	let res;
	try {
		res = await fetch(path, body === undefined ? {signal}
			: {signal, method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)});
	} catch (e) {
		if (e.name === 'AbortError') throw e;
		throw new Fault(gone, again, 0);
	}
	const date = Date.parse(res.headers.get('Date'));
	if (date) skew = date - Date.now();
	const text = await res.text();
	let out;
	try {
		out = JSON.parse(text);
	} catch {
		throw res.status === 403 ? new Fault('This browser is not let in any more.', again, 403) : new Fault(`${path}: ${res.status} ${text.slice(0, 200)}`, '', res.status);
	}
	if (!res.ok) throw new Fault(out.message || res.statusText, out.hint, res.status);
	return out;
}

// query writes parameters that are not empty.
export const query = o => {
	const s = Object.entries(o).filter(([, v]) => v).map(([k, v]) => `${k}=${encodeURIComponent(v)}`).join('&');
	return s && '?' + s;
};

// ago is how old a time is, in seconds.
export const ago = at => Math.max(0, (Date.now() + skew - Date.parse(at)) / 1000);

// span writes seconds in its largest unit.
export function span(s) {
	if (s < 1) return '0 s';
	if (s < 90) return Math.round(s) + ' s';
	if (s < 5400) return Math.round(s / 60) + ' min';
	if (s < 129600) return Math.round(s / 3600) + ' h';
	return Math.round(s / 86400) + ' d';
}

// trip writes microseconds as milliseconds with two digits that say something.
export function trip(us) {
	if (!us) return '';
	const ms = us / 1000;
	return (ms < 1 ? ms.toFixed(2) : ms < 10 ? ms.toFixed(1) : Math.round(ms)) + ' ms';
}

export const plural = (n, one, many = one + 's') => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;

// worst is the first of the states that one of those has.
const order = ['failing', 'stale', 'unproven', 'ok'];
export const worst = states => order.find(s => states.includes(s)) || 'unproven';

// compare sorts names with numbers in them as people do.
export const compare = new Intl.Collator('en', {numeric: true}).compare;
export const by = key => (a, b) => compare(a[key], b[key]);

// marks are said beside the colour, for those who do not see it.
const marks = {
	ok: '✓', alive: '✓', live: '✓', up: '✓', failing: '✕', fail: '✕', down: '✕', dead: '✕', broken: '✕', warn: '!', degraded: '!', starting: '!', suspect: '!', 'agent-down': '!', stale: '!',
	suspended: '!', deleting: '!', 'not-a-member': '✕', forgotten: '✕',
};
export const tone = s => ({ok: 'ok', alive: 'ok', live: 'ok', up: 'ok', failing: 'fail', fail: 'fail', down: 'fail', dead: 'fail', broken: 'fail', 'not-a-member': 'fail', forgotten: 'fail',
	warn: 'warn', degraded: 'warn', starting: 'warn', suspect: 'warn', 'agent-down': 'warn', stale: 'warn', suspended: 'warn', deleting: 'warn'})[s] || 'none';

// State is one word in its colour, with its mark.
export const State = ({of, say}) => html`<span class="state ${tone(of)}"><span class="mark" aria-hidden="true">${marks[of] || '·'}</span>${say || of}</span>`;

// Hint is lines to type, each with a button that copies it.
export const Hint = ({text}) => text ? html`<div class="hint">${text.split('\n').map(l => html`<${Line} text=${l} />`)}</div>` : null;

function Line({text}) {
	const [done, setDone] = useState(false);
	useEffect(() => {
		if (!done) return;
		const t = setTimeout(() => setDone(false), 1500);
		return () => clearTimeout(t);
	}, [done]);
	const [, command, note] = text.match(/^(.*?)(\s+# .*)?$/s);
	const copy = () => navigator.clipboard && navigator.clipboard.writeText(command).then(() => setDone(true), () => {});
	return html`<div class="line"><code>${command}${note && html`<span class="note">${note}</span>`}</code>
		${navigator.clipboard && html`<button type="button" class="copy" onClick=${copy} aria-label="Copy ${command}">${done ? 'copied' : 'copy'}</button>`}</div>`;
}

// Trouble is what a call failed with.
export const Trouble = ({of}) => of ? html`<div class="trouble" role="alert"><p>${of.message}</p><${Hint} text=${of.hint} /></div>` : null;

// Unasked are the members without whose answer a reply is not the whole one.
export const Unasked = ({list}) => list && list.length ? html`<ul class="unasked">${list.map(u => html`<li><b>${u.host}</b> was not asked: ${u.why}</li>`)}</ul>` : null;

// Heading begins a view.
export const Heading = ({title, children}) => html`<header class="heading"><h1 tabindex="-1">${title}</h1><div class="lead">${children}</div></header>`;

// colour is the class of a network's colour: the same for the same list of networks.
export const colour = (networks, name) => 'n' + (networks.findIndex(n => n.Name === name) + 8) % 8;

// address is without the length of the subnet.
export const bare = a => a.split('/')[0];

// The frame around the views: where one is, how the host is, and what to look at.
import {html, render, useState, useEffect, useRef, State, Hint, Trouble} from './lib.js';
import {facts, watch, start} from './store.js';
import {Cluster} from './map.js';
import {Tunnel} from './tunnel.js';
import {Networks} from './networks.js';
import {Endpoints} from './endpoints.js';
import {Events} from './events.js';
import {Ask} from './ask.js';
import {Health} from './health.js';

const views = [['map', 'Map', Cluster], ['tunnel', 'Tunnel', Tunnel], ['networks', 'Networks', Networks], ['endpoints', 'Endpoints', Endpoints], ['events', 'Events', Events], ['ask', 'Ask', Ask],
	['health', 'Health', Health]];

// place is where one is: #view/rest?key=value.
function place() {
	const [path, q] = location.hash.slice(1).split('?');
	const [view, ...rest] = path.split('/').map(decodeURIComponent);
	return {view: views.some(v => v[0] === view) ? view : 'map', rest, query: Object.fromEntries(new URLSearchParams(q))};
}

function usePlace() {
	const [at, setAt] = useState(place);
	useEffect(() => {
		const go = () => setAt(place());
		addEventListener('hashchange', go);
		return () => removeEventListener('hashchange', go);
	}, []);
	return at;
}

function useFacts() {
	const [, turn] = useState(0);
	useEffect(() => watch(() => turn(n => n + 1)), []);
	return facts;
}

// Top says who answers and how it is.
function Top({f}) {
	const st = f.status;
	const away = f.faults.status;
	return html`<div class="top">
		<a class="brand" href="#map"><svg width="22" height="22" viewBox="0 0 16 16" aria-hidden="true"><g fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round">
			<path d="M4.5 2v3M4.5 8.5V14M8 2v.5M8 5.5v5M8 13.5v.5M11.5 2v3M11.5 8.5V14"/><path class="weft" d="M2 4h.8M6.2 4H14M2 7.2h4.2M9.8 7.2H14M2 12h.8M6.2 12H14"/></g></svg>weft</a>
		${st && html`<span class="who"><b>${st.name || 'this host'}</b>${st.address && html`<span class="mono quiet">${st.address}</span>`}</span>
			<span class="quiet wide">agentd ${st.version}</span>`}
		<span class="grow"></span>
		<span role="status" class="now">${away ? html`<${State} of="fail" say="no answer" />` : st ? html`<${State} of=${st.state} />` : null}</span>
		<span class="beat ${f.heard && !away ? 'on' : ''}" title=${f.heard ? 'Events come as they happen' : 'Events do not come at this moment'}>${f.heard && !away ? 'live' : 'waiting'}</span>
	</div>`;
}

function Nav({view, f}) {
	const bad = {};
	const checks = f.status ? f.status.checks : [];
	if (checks.some(c => c.state === 'fail')) bad.health = 'fail';
	else if (checks.some(c => c.state === 'warn')) bad.health = 'warn';
	if (Object.values(f.proofs || {}).some(l => l.some(p => p.state === 'failing'))) bad.tunnel = 'fail';
	const here = useRef();
	useEffect(() => here.current && here.current.scrollIntoView({block: 'nearest', inline: 'center'}), [view]);
	return html`<nav aria-label="Views"><ul>${views.map(([id, title]) => html`<li><a href="#${id}" ref=${id === view ? here : null} aria-current=${id === view ? 'page' : null}>${title}
		${bad[id] && html`<span class="dot ${bad[id]}"><span class="unseen">, something is wrong</span></span>`}</a></li>`)}</ul></nav>`;
}

// Alarm says what fails, in the words of the agent, above every view but Health, which
// shows it anyway.
function Alarm({f, view}) {
	const away = f.faults.status;
	if (away) return html`<section class="alarm"><${Trouble} of=${away} /></section>`;
	const failing = view === 'health' ? [] : (f.status ? f.status.checks : []).filter(c => c.state === 'fail');
	if (!failing.length) return null;
	return html`<section class="alarm" aria-label="What fails">${failing.slice(0, 3).map(c => html`<div class="trouble"><p><b>${c.name}</b> ${c.detail}</p><${Hint} text=${c.hint} /></div>`)}
		${failing.length > 3 && html`<p><a href="#health">${failing.length - 3} more</a></p>`}</section>`;
}

function App() {
	const at = usePlace();
	const f = useFacts();
	const main = useRef();
	const first = useRef(true);
	const [, title, View] = views.find(v => v[0] === at.view);
	useEffect(() => {
		document.title = `${title} · ${f.status && f.status.name ? f.status.name + ' · ' : ''}weft`;
	}, [title, f.status && f.status.name]);
	useEffect(() => { // who reads with the ear hears where he is; not at the start
		if (!first.current) main.current.querySelector('h1')?.focus({preventScroll: true});
		first.current = false;
		scrollTo(0, 0);
	}, [at.view]);
	return html`<a class="skip" href="#${at.view}" onClick=${e => {
		e.preventDefault();
		main.current.querySelector('h1')?.focus();
	}}>Skip to the view</a>
		<div class="bar"><${Top} f=${f} /><${Nav} view=${at.view} f=${f} /></div>
		<${Alarm} f=${f} view=${at.view} />
		<main ref=${main}><${View} f=${f} at=${at} /></main>`;
}

const root = document.getElementById('app');
root.textContent = '';
render(html`<${App} />`, root);
start();

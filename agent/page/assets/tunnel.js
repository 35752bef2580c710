// Tunnel: who has proven what to whom.
import {html, useEffect, useRef, State, Hint, Trouble, Unasked, Heading, ago, span, trip, tone} from './lib.js';

const words = {out: 'what it sends gets there', in: 'what the other sends comes here', size: 'packets of the full size pass', bulk: 'many packets at once pass, as TCP sends them'};

export function Tunnel({f, at}) {
	const members = (f.members || []).filter(m => m.status !== 'left');
	const proofs = f.proofs || {};
	const check = f.status && f.status.checks.find(c => c.name === 'tunnel');
	const find = (a, b) => (proofs[a] || []).find(p => p.peer === b);
	const [from, to] = at.rest;
	return html`<${Heading} title="Tunnel">${check && check.state !== 'fail' ? html`<${State} of=${check.state} /> ${check.detail}` : 'What each host has proven of the way to each other one, by frames through the tunnel.'}<//>
		<${Trouble} of=${f.faults.mesh} />
		${from && to && html`<${Proof} from=${from} to=${to} of=${find(from, to)} back=${find(to, from)} />`}
		${members.length < 2 ? html`<p class="empty">This host is alone: there is no tunnel yet.</p><${Hint} text=${'agentctl join --help # on the next host'} />`
		: members.length > 12 ? html`<${Dense} members=${members} find=${find} from=${from} to=${to} />` : html`<${Matrix} members=${members} find=${find} from=${from} to=${to} />`}
		<${Unasked} list=${f.unasked} />
		<p class="legend"><${State} of="ok" /> <${State} of="failing" /> <${State} of="stale" say="stale: older than three periods" /> <${State} of="unproven" say="unproven: not tried yet" /></p>`;
}

const short = p => !p ? '' : p.state === 'ok' ? trip(p.rtt_median_us) || 'ok' : p.state;

// Matrix has a row for each host that proves, a column for each that is proven.
const Matrix = ({members, find, from, to}) => html`<div class="scroll"><table class="matrix">
	<caption class="unseen">Proofs of the tunnel: rows have proven what columns say</caption>
	<thead><tr><th scope="col" class="corner"><span class="quiet">from ╲ to</span></th>${members.map(m => html`<th scope="col">${m.name}</th>`)}</tr></thead>
	<tbody>${members.map(a => html`<tr key=${a.id}><th scope="row">${a.name}${a.status !== 'alive' && html` <${State} of=${a.status} />`}</th>${members.map(b => {
		if (a === b) return html`<td class="self" aria-label="itself"></td>`;
		const p = find(a.name, b.name);
		if (!p) return html`<td class="cell none"><span class="quiet" title="not known: ${a.name} did not answer">–</span></td>`;
		const here = a.name === from && b.name === to;
		return html`<td class="cell ${tone(p.state)}"><a href="#tunnel/${a.name}/${b.name}" aria-current=${here ? 'true' : null} aria-label="${a.name} to ${b.name}: ${p.state}">
			<b>${p.state === 'ok' ? trip(p.rtt_median_us) || 'ok' : html`<${State} of=${p.state} />`}</b>
			<small>${p.mtu ? p.mtu + ' B' : ''}${p.at ? html` · ${span(ago(p.at))}` : ''}</small></a></td>`;
	})}</tr>`)}</tbody></table></div>`;

// Dense is the same for many hosts: a cell is a square, its words stand in its title.
const Dense = ({members, find, from, to}) => html`<div class="scroll"><table class="dense">
	<caption class="unseen">Proofs of the tunnel: rows have proven what columns say</caption>
	<thead><tr><th></th>${members.map(m => html`<th scope="col"><span>${m.name}</span></th>`)}</tr></thead>
	<tbody>${members.map(a => html`<tr key=${a.id}><th scope="row">${a.name}</th>${members.map(b => {
		if (a === b) return html`<td class="self"></td>`;
		const p = find(a.name, b.name);
		const s = p ? p.state : 'none';
		return html`<td class=${tone(s)}><a href="#tunnel/${a.name}/${b.name}" tabindex=${s === 'ok' || !p ? -1 : 0} aria-current=${a.name === from && b.name === to ? 'true' : null} title="${a.name} to ${b.name}: ${p ? short(p) : 'not known'}"
			aria-label="${a.name} to ${b.name}: ${p ? p.state : 'not known'}">${tone(s) === 'fail' ? '✕' : tone(s) === 'warn' ? '!' : ''}</a></td>`;
	})}</tr>`)}</tbody></table></div>`;

// Proof is all that is known of one way, and of the way back.
function Proof({from, to, of, back}) {
	const box = useRef();
	useEffect(() => {
		box.current.focus({preventScroll: true});
		box.current.scrollIntoView({block: 'nearest'});
	}, [from, to]);
	return html`<section class="card proof" ref=${box} tabindex="-1" aria-label="The tunnel between ${from} and ${to}">
		<div class="split"><h2>${from} <span class="quiet">and</span> ${to}</h2><a class="close" href="#tunnel" aria-label="Close">✕</a></div>
		<div class="pair"><${Side} from=${from} to=${to} p=${of} /><${Side} from=${to} to=${from} p=${back} /></div></section>`;
}

function Side({from, to, p}) {
	if (!p) return html`<div><h3>as ${from} sees it</h3><p class="quiet">Not known: ${from} did not answer.</p></div>`;
	return html`<div><h3>as ${from} sees it <${State} of=${p.state} /></h3>
		${p.why && html`<p class="why">${p.why}</p>`}<${Hint} text=${p.hint} />
		<dl class="facts">${['out', 'in', 'size', 'bulk'].map(k => html`<dt title=${words[k]}>${k}</dt><dd><${State} of=${p[k]} /> <span class="quiet">${words[k]}</span></dd>`)}
			<dt>packet</dt><dd>${p.mtu ? html`${p.mtu} bytes get there` : html`<span class="quiet">not known</span>`}</dd>
			<dt>round trip</dt><dd>${p.rtt_us ? html`${trip(p.rtt_us)} <span class="quiet">median ${trip(p.rtt_median_us)}, worst ${trip(p.rtt_worst_us)} of the last minute</span>` : html`<span class="quiet">not known</span>`}</dd>
			<dt>loss</dt><dd>${p.loss_pct.toFixed(p.loss_pct && p.loss_pct < 10 ? 1 : 0)} % <span class="quiet">of the last ten minutes</span></dd>
			<dt>proven</dt><dd>${p.at ? html`${span(ago(p.at))} ago` : html`<span class="quiet">never</span>`}${!p.shares && html` <span class="quiet">they share no network, so less often</span>`}</dd></dl></div>`;
}

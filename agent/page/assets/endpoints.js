// Endpoints: of all hosts, to be searched.
import {html, useState, useEffect, useMemo, State, Heading, Trouble, Unasked, call, query, colour, bare, plural, compare} from './lib.js';

const first = 100; // rows at the start

// words are all by which an endpoint is found.
const words = e => [e.name, ...e.aliases, e.address, e.network, e.host, e.id, e.runtime, e.status, e.mac, e.container || '', ...(e.ports || []), ...Object.entries(e.labels || {}).map(([k, v]) => `${k}=${v}`)].join(' ').toLowerCase();

// goto writes what is chosen into the address, so that it can be kept and sent.
export const goto = (view, q) => history.replaceState(null, '', `#${view}${query(q)}`);

export function Endpoints({f, at}) {
	const [q, setQ] = useState(at.query);
	const [more, setMore] = useState(false);
	const [open, setOpen] = useState('');
	useEffect(() => setQ(at.query), [at.query]);
	const set = (key, value) => {
		const next = {...q, [key]: value};
		setQ(next);
		goto('endpoints', next);
	};
	const all = f.endpoints || [];
	const texts = useMemo(() => new Map(all.map(e => [e, words(e)])), [f.endpoints]);
	const asked = (q.q || '').toLowerCase().split(/\s+/).filter(Boolean);
	const found = all.filter(e => (!q.network || e.network === q.network) && (!q.host || e.host === q.host) && asked.every(w => texts.get(e).includes(w)));
	const rows = more ? found : found.slice(0, first);
	const choices = key => [...new Set(all.map(e => e[key]).concat(q[key] || []))].sort(compare);
	return html`<${Heading} title="Endpoints">${f.endpoints && (found.length === all.length ? plural(all.length, 'endpoint') : `${found.length.toLocaleString('en')} of ${plural(all.length, 'endpoint')}`)}<//>
		<${Trouble} of=${f.faults.endpoints} />
		<form class="filters" role="search" onSubmit=${e => e.preventDefault()}>
			<label class="wide-field"><span>Search</span><input type="search" value=${q.q || ''} placeholder="name, address, label…" onInput=${e => set('q', e.target.value)} autocomplete="off" spellcheck="false" /></label>
			<${Choice} title="Network" value=${q.network} of=${choices('network')} set=${v => set('network', v)} />
			<${Choice} title="Host" value=${q.host} of=${choices('host')} set=${v => set('host', v)} /></form>
		${found.length > 0 && html`<table class="list endpoints"><thead><tr>${['Name', 'Network', 'Address', 'Host', 'State', 'Ports'].map(t => html`<th scope="col">${t}</th>`)}</tr></thead><tbody>
			${rows.map(e => [html`<tr key=${e.id} class=${open === e.id ? 'open' : ''}>
				<td class="name"><button type="button" class="plain" aria-expanded=${open === e.id} onClick=${() => setOpen(open === e.id ? '' : e.id)}>${e.name || '–'}</button>${e.aliases.length > 0 && html` <span class="quiet">${e.aliases.join(', ')}</span>`}</td>
				<td class="on ${colour(f.networks || [], e.network)}"><i></i>${e.network}</td><td class="mono">${bare(e.address)}</td><td>${e.host}</td>
				<td><${State} of=${e.status} /></td><td class="mono small">${(e.ports || []).join(' ')}</td></tr>`,
			open === e.id && html`<tr key=${e.id + ' more'} class="more"><td colspan="6"><${Details} key=${e.id} e=${e} /></td></tr>`])}</tbody></table>`}
		${f.endpoints && !found.length && html`<p class="empty">${all.length ? 'None is found by these words.' : 'There is no endpoint yet.'}</p>`}
		${rows.length < found.length && html`<p><button type="button" onClick=${() => setMore(true)}>Show all ${found.length.toLocaleString('en')}</button></p>`}`;
}

export const Choice = ({title, value, of, set, none = 'all'}) => html`<label><span>${title}</span><select value=${value || ''} onChange=${e => set(e.target.value)}>
	${none && html`<option value="">${none}</option>`}${of.map(o => typeof o === 'string' ? html`<option key=${o} value=${o} selected=${o === value}>${o}</option>` : html`<option key=${o[0]} value=${o[0]} selected=${o[0] === value}>${o[1]}</option>`)}</select></label>`;

// Details are the rest of an endpoint, the names that answer, and who had its address.
function Details({e}) {
	const [names, setNames] = useState(null);
	const [past, setPast] = useState(null);
	const addr = bare(e.address);
	useEffect(() => {
		const stop = new AbortController();
		answering(e, addr, stop.signal).then(setNames, () => {});
		call(`/v1/endpoints/${encodeURIComponent(addr)}/history`, undefined, stop.signal).then(setPast, fault => fault.name !== 'AbortError' && setPast({fault}));
		return () => stop.abort();
	}, [e.id]);
	const labels = Object.entries(e.labels || {});
	return html`<div class="pair"><dl class="facts">
			<dt>id</dt><dd class="mono wrap">${e.id}</dd><dt>MAC</dt><dd class="mono">${e.mac}</dd><dt>runtime</dt><dd>${e.runtime}${e.container && html` <span class="mono quiet wrap">${e.container}</span>`}</dd>
			${e.interface && html`<dt>interface</dt><dd class="mono">${e.interface}</dd>`}${e.sandbox && html`<dt>sandbox</dt><dd class="mono wrap">${e.sandbox}</dd>`}
			<dt>labels</dt><dd>${labels.length ? labels.map(([k, v]) => html`<span class="label">${k}=${v}</span> `) : html`<span class="quiet">${e.detailed ? 'none' : 'not told by a host of an older release'}</span>`}${e.more ? html`<span class="quiet">${e.more} labels and ports more were not told</span>` : ''}</dd></dl>
		<div><dl class="facts"><dt>answers to</dt><dd>${!names ? '…' : names.length ? html`<ul>${names.map(n => html`<li><span class="mono wrap">${n.name}</span> ${n.ok || html`<${State} of="fail" say=${n.rcode} />`}</li>`)}</ul>` : html`<span class="quiet">no name</span>`}</dd>
			<dt>${addr}</dt><dd>${!past ? '…' : past.fault ? html`<span class="quiet">${past.fault.message}</span>` : html`<ul>${past.spans.slice(-6).reverse().map(s => html`<li>${s.name} on ${s.host} <span class="quiet">${when(s.from) || 'before what is written down'} to ${when(s.to) || 'now'}${s.by && `, by ${s.by}`}</span></li>`)}</ul>`}</dd></dl>
			<${Unasked} list=${past && past.unasked} /><p class="ways"><a href="#ask?from=${encodeURIComponent(e.name || addr)}">Whom does it reach?</a> <a href="#ask?to=${encodeURIComponent(e.name || addr)}">Who reaches it?</a></p></div></div>`;
}

export const when = t => t && new Date(t).toLocaleString('sv');

// answering asks the DNS server for the name of the address, and for the aliases beside
// it, as the host would.
async function answering(e, addr, signal) {
	const ask = q => call('/v1/dns/query' + query(q), undefined, signal);
	const own = (await ask({name: addr, type: 'PTR'})).values;
	const out = own.map(name => ({name, ok: true}));
	const rest = own.length && e.name ? own[0].slice(own[0].indexOf('.')) : '';
	for (const alias of rest ? e.aliases : []) {
		const a = await ask({name: alias + rest, type: addr.includes(':') ? 'AAAA' : 'A'});
		out.push({name: alias + rest, ok: a.values.includes(addr), rcode: a.rcode});
	}
	return out;
}

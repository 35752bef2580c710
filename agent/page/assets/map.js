// Map: the hosts with their endpoints, and the ways between them.
import {html, useState, useLayoutEffect, useRef, State, Heading, Hint, Trouble, worst, tone, trip, colour, bare, plural} from './lib.js';
import {arrange, shown} from './layout.js';

export function Cluster({f}) {
	const members = (f.members || []).filter(m => m.status !== 'left');
	const check = f.status && f.status.checks.find(c => c.name === 'tunnel');
	const [lit, light] = useState(null); // the network that is looked at
	const endpoints = (f.endpoints || []).filter(e => e.runtime !== 'host');
	const on = {};
	for (const e of endpoints) (on[e.host] = on[e.host] || []).push(e);
	if (!f.members) return html`<${Heading} title="Map" /><${Trouble} of=${f.faults.members} />${!f.faults.members && html`<p class="empty">Asking the agent…</p>`}`;
	return html`<${Heading} title="Map">${plural(members.length, 'host')}${f.networks && `, ${plural(f.networks.length, 'network')}`}${f.endpoints && `, ${plural(endpoints.length, 'endpoint')}`}${check && html`<span class="sep"> · </span>tunnel ${check.state === 'ok' ? check.detail : html`<${State} of=${check.state} say=${check.state === 'fail' ? 'failing' : check.detail} />`}`}<//>
		<${Trouble} of=${f.faults.endpoints || f.faults.networks || f.faults.mesh} />
		<${Legend} f=${f} on=${lit} light=${light} />
		<${Sheet} f=${f} members=${members} on=${on} lit=${lit} />
		${members.length === 1 && html`<p class="empty">To add a host, type this on it, with the token of this one:</p><${Hint} text="agentctl join --help" />`}`;
}

// Legend names the colours; a network that is chosen stands out on the map.
const Legend = ({f, on, light}) => f.networks && f.networks.length ? html`<ul class="nets" aria-label="Networks">${f.networks.slice(0, 24).map(n => html`<li key=${n.Id}>
	<button type="button" class="net ${colour(f.networks, n.Name)}" aria-pressed=${on === n.Name} onClick=${() => light(on === n.Name ? null : n.Name)}><i></i>${n.Name}<span class="quiet mono">${n.IPAM.Config.map(c => c.Subnet).join(' ')}</span></button></li>`)}
	${f.networks.length > 24 && html`<li><a href="#networks">${f.networks.length - 24} more</a></li>`}</ul>` : null;

// ways are the pairs of hosts with what both know of the tunnel between them.
function ways(members, proofs) {
	const of = {};
	for (const [host, list] of Object.entries(proofs)) for (const p of list) of[host + ' ' + p.peer] = p;
	const out = [];
	members.forEach((a, i) => members.slice(i + 1).forEach(b => {
		const ab = of[a.name + ' ' + b.name], ba = of[b.name + ' ' + a.name];
		if (a.status !== 'alive' || b.status !== 'alive' || !ab && !ba) return; // nothing is known of the way
		const there = worst([ab && ab.out, ba && ba.in].filter(Boolean)), back = worst([ba && ba.out, ab && ab.in].filter(Boolean));
		out.push({a: a.name, b: b.name, there, back, state: worst([ab, ba].filter(Boolean).map(p => p.state)), rtt: (ab || ba || {}).rtt_median_us, why: (ab && ab.why) || (ba && ba.why) || ''});
	}));
	return out;
}

function Sheet({f, members, on, lit}) {
	const box = useRef();
	const [width, setWidth] = useState(0);
	useLayoutEffect(() => {
		const look = () => setWidth(Math.floor(box.current.clientWidth));
		look();
		const o = new ResizeObserver(look);
		o.observe(box.current);
		return () => o.disconnect();
	}, []);
	const lines = ways(members, f.proofs || {});
	const plan = width ? arrange(members.map(m => ({name: m.name, n: (on[m.name] || []).length})), width) : null;
	return html`<div class="sheet" ref=${box}>${!plan ? null : plan.kind === 'grid' ? html`<${Grid} members=${members} lines=${lines} on=${on} />`
		: html`<div class="map ${plan.kind}" style=${{height: plan.height + 'px'}}>
			<${Lines} plan=${plan} lines=${lines} width=${width} quiet=${plan.kind === 'columns'} label=${plan.kind === 'rows' && members.length <= 4} />
			${members.map(m => html`<${Host} key=${m.id} m=${m} f=${f} at=${plan.boxes[m.name]} list=${on[m.name] || []} small=${plan.kind === 'columns'} lit=${lit} />`)}</div>`}</div>`;
}

// Lines are drawn below the boxes. In a crowd those that are ok are one path, and those
// that are not proven yet another, which keeps the page quick.
function Lines({plan, lines, width, quiet, label}) {
	const crowds = quiet ? ['unproven', 'ok'].map(s => lines.filter(l => l.state === s && l.there === l.back)).filter(c => c.length) : [];
	const merged = new Set(crowds.flat());
	const single = lines.filter(l => !merged.has(l)).sort((x, y) => (x.state === 'failing') - (y.state === 'failing'));
	return html`<svg class="lines" width=${width} height=${plan.height} viewBox="0 0 ${width} ${plan.height}" role="group" aria-label="Tunnels between hosts">
		<defs>${['ok', 'fail', 'warn', 'none'].map(t => html`<marker id="to-${t}" class=${t} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0 .6 8 4 0 7.4z" /></marker>`)}</defs>
		${crowds.map(c => html`<path class="crowd ${tone(c[0].state)} ${c.length < 200 ? 'few' : ''}" d=${c.map(l => plan.path(l.a, l.b).d).join('')} />`)}
		${single.map(l => html`<${Way} key=${l.a + ' ' + l.b} l=${l} w=${plan.path(l.a, l.b)} label=${label} />`)}</svg>`;
}

// Way is one line, or two where the directions differ.
function Way({l, w, label}) {
	const [there, back] = w.flip ? [l.back, l.there] : [l.there, l.back];
	const split = there !== back;
	const dx = w.q[0] - w.p[0], dy = w.q[1] - w.p[1], len = Math.hypot(dx, dy) || 1;
	const side = n => `translate(${(-dy / len * n).toFixed(1)} ${(dx / len * n).toFixed(1)})`;
	const [x, y] = w.mid(.5);
	const says = `${l.a} and ${l.b}: ${l.state}${l.why ? ': ' + l.why : ''}`;
	const lost = there === 'failing' && back !== 'failing' ? 'one way' : back === 'failing' && there !== 'failing' ? 'one way' : 'blocked';
	return html`<a class="way ${tone(l.state)}" href="#tunnel/${l.a}/${l.b}" aria-label=${says}><title>${says}</title><path class="reach" d=${w.d} />
		${split ? html`<path class="stroke ${tone(there)}" d=${w.d} transform=${side(-3.5)} marker-end="url(#to-${tone(there)})" /><path class="stroke ${tone(back)}" d=${w.d} transform=${side(3.5)} marker-start="url(#to-${tone(back)})" />`
		: html`<path class="stroke ${tone(l.state)}" d=${w.d} />`}
		${l.state === 'failing' ? html`<g class="cut" transform="translate(${x} ${y})"><circle r="8" /><path d="M-3-3 3 3M3-3-3 3" />${label && html`<text y="22">${lost}</text>`}</g>`
		: label && l.rtt ? html`<text class="rtt" x=${x} y=${y + 4}>${trip(l.rtt)}</text>` : null}</a>`;
}

function Host({m, f, at, list, small, lit}) {
	const own = f.status && f.status.name === m.name;
	const alive = m.status === 'alive';
	const nets = small ? [...new Set(list.map(e => e.network))].sort().slice(0, 8) : [];
	const seen = list.slice(0, shown(list.length));
	return html`<section class="host ${alive ? '' : tone(m.status)} ${own ? 'own' : ''}" style=${{left: at.x + 'px', top: at.y + 'px', width: at.w + 'px', height: at.h + 'px'}} aria-label="host ${m.name}">
		<header><h2>${m.name}</h2>${!alive && html`<${State} of=${m.status} />`}<span class="grow"></span><span class="mono quiet">${m.address}</span>
			${small && html`<span class="on">${nets.map(n => html`<i class="${colour(f.networks || [], n)} ${lit && lit !== n ? 'dim' : ''}" title=${n}></i>`)}</span><a class="count" href="#endpoints?host=${m.name}" aria-label="${plural(list.length, 'endpoint')} of ${m.name}">${list.length}</a>`}</header>
		${!small && html`<p class="sub">${own ? 'this host' : m.tunnel ? html`tunnel <${State} of=${m.tunnel} />` : ''}<span class="grow"></span>${f.endpoints && !list.length && 'no endpoints'}</p>`}
		${!small && list.length > 0 && html`<ul>${seen.map(e => html`<li key=${e.id} class="${colour(f.networks || [], e.network)} ${lit && lit !== e.network ? 'dim' : ''} ${e.status}" title="${e.name} on ${e.network}, ${e.status}">
			<i></i><span class="name">${e.name}</span><span class="mono quiet">${bare(e.address)}</span></li>`)}
			${list.length > seen.length && html`<li class="more"><a href="#endpoints?host=${m.name}">${list.length - seen.length} more</a></li>`}</ul>`}</section>`;
}

// Grid is for more hosts than lines can be drawn between.
const Grid = ({members, lines, on}) => {
	const of = {};
	for (const l of lines) for (const h of [l.a, l.b]) (of[h] = of[h] || []).push(l.state);
	return html`<ul class="grid">${members.map(m => {
		const s = m.status !== 'alive' ? m.status : worst(of[m.name] || []);
		const bad = (of[m.name] || []).filter(x => x === 'failing').length;
		return html`<li key=${m.id} class=${tone(s)}><a href="#endpoints?host=${m.name}"><b>${m.name}</b><span class="quiet">${plural((on[m.name] || []).length, 'endpoint')}</span><${State} of=${s} say=${bad ? `failing to ${bad}` : s} /></a></li>`;
	})}</ul>`;
};

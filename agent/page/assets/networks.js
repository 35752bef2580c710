// Networks: their subnets, how much of them is in use, and who hands out which part.
import {html, State, Heading, Trouble, colour, bare, plural, compare} from './lib.js';

export function Networks({f}) {
	const list = f.networks;
	return html`<${Heading} title="Networks">${list && (list.length ? html`${plural(list.length, 'network')} of this cluster, the same on each host.` : '')}<//>
		<${Trouble} of=${f.faults.networks} />
		${list && !list.length && html`<p class="empty">There is no network yet. To make one:</p><div class="line"><code>agentctl network create NAME</code></div>`}
		${(list || []).map(n => html`<${Network} key=${n.Id} n=${n} f=${f} />`)}`;
}

function Network({n, f}) {
	const all = Object.values(n.Containers);
	const notes = [n.Internal && 'internal: no way out', ...Object.entries(n.Options).map(([k, v]) => `${k}=${v}`)].filter(Boolean);
	return html`<section class="card network ${colour(f.networks, n.Name)}" aria-label="network ${n.Name}">
		<div class="split"><h2><i></i>${n.Name} ${n.State !== 'up' && html`<${State} of=${n.State} />`}</h2><a href="#endpoints?network=${n.Name}">${plural(all.length, 'endpoint')}</a></div>
		<p class="quiet tags">VNI ${n.VNI}<span>MTU ${n.MTU}</span>${n.Driver !== 'weft' && html`<span>driver ${n.Driver}</span>`}${notes.map(t => html`<span>${t}</span>`)}${Object.entries(n.Labels).map(([k, v]) => html`<span class="label">${k}=${v}</span>`)}</p>
		${n.IPAM.Config.map(c => html`<${Subnet} key=${c.Subnet} c=${c} all=${all} />`)}</section>`;
}

function Subnet({c, all}) {
	const six = c.Subnet.includes(':');
	const here = all.map(e => ({host: e.Host, addr: bare(six ? e.IPv6Address : e.IPv4Address)})).filter(e => e.addr);
	const hosts = [...new Set([...Object.keys(c.Blocks || {}), ...here.map(e => e.host)])].sort(compare);
	return html`<div class="subnet"><div class="split"><span><b class="mono">${c.Subnet}</b> <span class="quiet">gateway <span class="mono">${c.Gateway}</span>${c.IPRange && html`, range <span class="mono">${c.IPRange}</span>`}</span></span>
			<span class="quiet">${here.length.toLocaleString('en')}${c.Addresses ? ` of ${c.Addresses.toLocaleString('en')} addresses` : ' addresses'} in use</span></div>
		${six ? null : html`<${Strip} c=${c} here=${here} />`}
		${hosts.length > 0 && html`<dl class="blocks">${hosts.map(h => html`<dt>${h}</dt><dd><span class="mono">${((c.Blocks || {})[h] || []).join(' ') || '–'}</span></dd><dd class="quiet">${here.filter(e => e.host === h).length} in use</dd>`)}</dl>`}</div>`;
}

const number = a => a.split('.').reduce((n, b) => n * 256 + +b, 0);
const extent = p => {
	const [a, bits] = p.split('/');
	return [number(a), 2 ** (32 - bits)];
};

// Strip is the subnet from its first address to its last: the blocks that are handed out,
// and in them the addresses in use.
function Strip({c, here}) {
	const [first, size] = extent(c.Subnet);
	const at = n => ((n - first) / size * 1000).toFixed(2);
	const blocks = Object.entries(c.Blocks || {}).flatMap(([host, l]) => l.map(b => [host, b, ...extent(b)]));
	return html`<svg class="strip" viewBox="0 0 1000 14" preserveAspectRatio="none" role="img" aria-label="${plural(blocks.length, 'block')} of ${c.Subnet} are handed out, ${plural(here.length, 'address', 'addresses')} in use">
		<rect class="all" width="1000" height="14" />${blocks.map(([host, b, from, n]) => html`<rect class="block" x=${at(from)} width=${Math.max(2, n / size * 1000 - .6)} height="14"><title>${b} is handed out by ${host}</title></rect>`)}
		${here.slice(0, 2000).map(e => html`<rect class="used" x=${at(number(e.addr))} width=${Math.max(1.2, 1000 / size)} y="3" height="8" />`)}</svg>`;
}

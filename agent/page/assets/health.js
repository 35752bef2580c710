// Health: what was checked on this host, with the command to type.
import {html, useState, State, Hint, Trouble, Unasked, Heading, call, plural, span, ago} from './lib.js';

const rank = {fail: 0, warn: 1, ok: 2};

export function Health({f}) {
	const st = f.status;
	if (!st) return html`<${Heading} title="Health" /><${Trouble} of=${f.faults.status} />`;
	const checks = st.checks.map((c, i) => ({...c, i})).sort((a, b) => rank[a.state] - rank[b.state] || a.i - b.i);
	return html`<${Heading} title="Health">${st.name ? html`<b>${st.name}</b> is <${State} of=${st.state} />` : html`<${State} of=${st.state} />`}<//>
		<ul class="checks">${checks.map(c => html`<li key=${c.name} class=${c.state}><div class="check"><${State} of=${c.state} /><b>${c.name}</b><p>${c.detail}${c.since && html` <span class="quiet">for ${span(ago(c.since))}</span>`}</p></div><${Hint} text=${c.hint} /></li>`)}</ul>
		<section class="card"><h2>This host</h2><dl class="facts">
			<dt>address</dt><dd class="mono">${st.address || '–'}</dd>
			<dt>cluster</dt><dd class="mono wrap">${st.cluster || 'not a member'}</dd>
			<dt>agentd</dt><dd>${st.version}, process ${st.pid}</dd>
			<dt>fabric</dt><dd class="mono wrap">${st.fabric || '–'}</dd>
			${st.docker && html`<dt>Docker</dt><dd>${st.docker.engine ? html`${st.docker.engine} at <span class="mono wrap">${st.docker.socket}</span>` : 'does not answer'}</dd>`}</dl></section>
		<${Drift} />`;
}

// Drift compares the kernels with what is wanted, when it is asked to.
function Drift() {
	const [v, set] = useState({});
	const look = () => {
		set({busy: true});
		call('/v1/verify?all=true').then(answer => set({answer}), fault => set({fault}));
	};
	const d = v.answer && v.answer.drift;
	return html`<section class="card"><div class="split"><h2>Kernels against what is wanted</h2><button type="button" onClick=${look} disabled=${v.busy}>${v.busy ? 'comparing…' : 'Compare all hosts'}</button></div>
		<div aria-live="polite"><${Trouble} of=${v.fault} />
		${d && (d.length ? html`<p>${plural(d.length, 'object')} of ${v.answer.checked} ${d.length === 1 ? 'is' : 'are'} not as wanted:</p><ul class="drift">${d.map(o => html`<li><span class="quiet">${o.host}</span> <${State} of="warn" say=${o.kind} /> <code>${o.object}</code></li>`)}</ul><${Hint} text="agentctl verify --repair --all" />`
		: html`<p><${State} of="ok" say="as wanted" /> ${plural(v.answer.checked, 'object')} compared.</p>`)}
		${v.answer && html`<${Unasked} list=${v.answer.unasked} />`}</div></section>`;
}

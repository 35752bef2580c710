// Ask: whether one end reaches another, step by step, and what a name is answered with.
import {html, useState, useEffect, State, Hint, Trouble, Heading, call, query} from './lib.js';
import {Choice} from './endpoints.js';

export function Ask({f, at}) {
	const names = [...new Set((f.endpoints || []).flatMap(e => [e.name, ...e.aliases]).filter(Boolean))].slice(0, 2000);
	return html`<${Heading} title="Ask">Whether one end reaches another, and what is in the way; and what a name is answered with. To see whether it is answered, one packet is sent.<//>
		<datalist id="names">${names.map(n => html`<option key=${n} value=${n} />`)}</datalist>
		<${Why} key=${JSON.stringify(at.query)} given=${at.query} /><${Name} />`;
}

// useAnswer is a call that a person makes, and what came of it; a newer one ends it.
function useAnswer() {
	const [v, set] = useState({});
	const ask = (path, body) => {
		if (v.stop) v.stop.abort();
		const stop = new AbortController();
		set({busy: true, stop});
		call(path, body, stop.signal).then(answer => set({answer, took: performance.now()}), fault => fault.name !== 'AbortError' && set({fault}));
	};
	return [v, ask];
}

const Field = ({title, value, set, list, ...more}) => html`<label><span>${title}</span><input value=${value} onInput=${e => set(e.target.value)} list=${list} autocomplete="off" autocapitalize="off" spellcheck="false" ...${more} /></label>`;

function Why({given}) {
	const [from, setFrom] = useState(given.from || '');
	const [to, setTo] = useState(given.to || '');
	const [port, setPort] = useState(given.port || '');
	const [proto, setProto] = useState('tcp');
	const [v, ask] = useAnswer();
	const go = e => {
		e.preventDefault();
		ask('/v1/why', {from: from.trim(), to: to.trim(), ...(port ? {port: +port, proto} : {})});
	};
	const y = v.answer;
	return html`<section class="card"><h2>Does it get there?</h2><form class="filters ask why-form" onSubmit=${go}>
			<${Field} title="From" value=${from} set=${setFrom} list="names" required placeholder="web, an address, host" />
			<${Field} title="To" value=${to} set=${setTo} list="names" required placeholder="db, a name, an address" />
			<${Field} title="Port" value=${port} set=${setPort} type="number" min="1" max="65535" placeholder="echo" />
			<${Choice} title="Protocol" value=${proto} of=${['tcp', 'udp']} none="" set=${setProto} />
			<button type="submit" class="go" disabled=${v.busy}>${v.busy ? 'Looking…' : 'Why?'}</button></form>
		<div aria-live="polite" class="answer"><${Trouble} of=${v.fault} />
			${y && html`<p class="verdict ${y.works ? 'ok' : 'fail'}"><${State} of=${y.works ? 'ok' : 'fail'} say=${y.sentence} /></p><${Hint} text=${y.hint} />
			<ol class="steps">${y.steps.map((s, i) => html`<li key=${i} class=${s.state}><span class="ring" aria-hidden="true">${s.state === 'ok' ? '✓' : s.state === 'broken' ? '✕' : ''}</span>
				<div><b>${s.step}</b>${s.host && html` <span class="quiet">on ${s.host}</span>`}<span class="unseen">: ${s.state}. </span><p>${s.evidence}</p></div></li>`)}</ol>`}</div></section>`;
}

function Name() {
	const [name, setName] = useState('');
	const [type, setType] = useState('A');
	const [from, setFrom] = useState('');
	const [v, ask] = useAnswer();
	const go = e => {
		e.preventDefault();
		ask('/v1/dns/query' + query({name: name.trim(), type, from: from.trim()}));
	};
	const a = v.answer;
	return html`<section class="card"><h2>What is a name answered with?</h2><form class="filters ask name-form" onSubmit=${go}>
			<${Field} title="Name or address" value=${name} set=${setName} list="names" required placeholder="web, web.blue, 10.64.0.5" />
			<${Choice} title="Type" value=${type} of=${['A', 'AAAA', 'PTR', 'SRV', 'TXT', 'SOA', 'NS']} none="" set=${setType} />
			<${Field} title="Asked by" value=${from} set=${setFrom} list="names" placeholder="this host, or an endpoint of it" />
			<button type="submit" class="go" disabled=${v.busy}>${v.busy ? 'Asking…' : 'Ask'}</button></form>
		<div aria-live="polite" class="answer"><${Trouble} of=${v.fault} />
			${a && html`<p class="verdict ${a.rcode === 'NOERROR' && a.answer.length ? 'ok' : 'none'}"><${State} of=${a.rcode === 'NOERROR' && a.answer.length ? 'ok' : 'none'} say=${a.rcode} /> <span class="quiet">${a.answer.length ? '' : 'no record, '}${a.took_ms} ms in the server</span></p>
			<pre class="records">${[...a.answer, ...(a.authority || [])].map(r => r.replaceAll('\t', '  ')).join('\n')}</pre>`}</div></section>`;
}

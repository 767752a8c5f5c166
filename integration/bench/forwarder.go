package main

import (
	"fmt"
	"time"
)

// hostLoads are what the audited program does: programs started, 6 records each
// and the end of the event, and the cheapest call there is, two records each.
func hostLoads(scale int) []hostLoad {
	return []hostLoad{
		{name: "100 exec/s", events: 400 * scale, rate: 100},
		{name: "1,000 exec/s", events: 4_000 * scale, rate: 1000},
		{name: "exec, as fast as it can", events: 5_000 * scale},
		{name: "getppid, as fast as it can", events: 40_000 * scale, getppid: true},
	}
}

var (
	stockHost = hostSide{"auditd + audisp-remote", stockSide}
	ourHost   = hostSide{"forwarder", ourSide}
)

// forwarder compares a host's side: stock auditd with audisp-remote as its
// plugin, and the forwarder in place of both.
func (b *bench) forwarder() error {
	b.printf("## A host's side: kernel → log and server\n\n")
	b.printf("Stock auditd with audisp-remote as its plugin, and `forwarder --source kernel` with the same auditd.conf (as shipped, RAW, other plugins off)\n")
	b.printf("in place of both, under the same audited program: a rule on the tiny program that is started, or on the one that calls getppid. CPU is all\n")
	b.printf("the side's processes', a record in the log, from the program's start until nothing is left to send; RSS the most of each, added up. Slower: what an\n")
	b.printf("operation takes, against the same without rule and daemon. Lost: events not in the local log / not at the server. Median of %d, by turns.\n\n", b.rounds)
	b.hostHead()
	scale := 1
	if b.scale > 1 {
		scale = 3
	}
	loads := hostLoads(scale)
	bases := map[string]time.Duration{}
	for _, l := range loads {
		bases[l.name] = b.hostRow(l.name+" → stock server", hostSetup{load: l, server: stockServer("incremental_async")}, 0, b.rounds)
	}
	less := 1
	if b.scale > 1 {
		less = b.rounds
	}
	fast, burst := loads[1], loads[3]
	for _, row := range []struct {
		name  string
		setup hostSetup
	}{
		{"1,000 exec/s → collector", hostSetup{load: fast, server: ourServer("sync")}},
		{"getppid → collector", hostSetup{load: burst, server: ourServer("sync")}},
		{"1,000 exec/s, ENRICHED → stock server", hostSetup{load: fast, server: stockServer("incremental_async"), enriched: true}},
		{"1,000 exec/s, ENRICHED, af_unix and syslog plugins → stock server", hostSetup{load: fast, server: stockServer("incremental_async"), enriched: true, plugins: true}},
		{"1,000 exec/s → stock server over 50 ms", hostSetup{load: fast, server: stockServer("incremental_async"), oneWay: 25 * time.Millisecond}},
	} {
		b.hostRow(row.name, row.setup, bases[row.setup.load.name], less)
	}
	b.printf("\n")
	return nil
}

// cutLink compares them behind a slow link that goes away: most of what this costs
// is waiting.
func (b *bench) cutLink() error {
	b.printf("## A host behind a link that is cut\n\nAs above, over a round trip of 200 ms, cut from second 3 to 33 of 40; what is left to send 30 s after the program's end counts as not at the\nserver.\n\n")
	b.hostHead()
	b.hostRow("200 exec/s → stock server", hostSetup{
		load: hostLoad{name: "200 exec/s", events: 8_000, rate: 200}, server: stockServer("incremental_async"), oneWay: 100 * time.Millisecond,
		cutAfter: 3 * time.Second, cutFor: 30 * time.Second, wait: 30 * time.Second,
	}, 0, 1)
	b.printf("\n")
	return nil
}

func (b *bench) hostHead() {
	b.printf("| load | stock CPU µs/record | ours | ratio | stock RSS | ours | stock slower | ours | stock lost | ours |\n|---|---|---|---|---|---|---|---|---|---|\n")
}

// hostRow measures both sides by turns and prints the row. base is what an
// operation takes without audit; 0: it is measured too, and returned.
func (b *bench) hostRow(name string, s hostSetup, base time.Duration, rounds int) time.Duration {
	all := map[string][]hostRun{}
	var bases []time.Duration
	for range rounds {
		if base == 0 {
			d, err := b.baseline(s.load)
			if err != nil {
				b.fail("%s without audit: %v", name, err)
				return 0
			}
			bases = append(bases, d)
		}
		for _, side := range []hostSide{stockHost, ourHost} {
			if b.ctx.Err() != nil {
				return 0
			}
			r, err := b.runHost(side, s)
			if err != nil {
				b.fail("%s, %s: %v", name, side.name, err)
				continue
			}
			progress("%-30s %-22s %5.2f µs/record (+ %.2f kauditd)  peak %s  %s an operation  lost %d in the kernel, %d/%d events  overruns %d  done %t  stalled %t",
				name, side.name, r.perRecord, r.kernelPer, mib(r.peak), short(r.perOp), r.lost, r.notLogged, r.notAtServer, r.overruns, r.settled, r.stalled)
			all[side.name] = append(all[side.name], r)
		}
	}
	if base == 0 {
		base = median(bases)
	}
	st, us := medianHost(all[stockHost.name]), medianHost(all[ourHost.name])
	slower := func(r hostRun) string {
		if r.stalled {
			return fmt.Sprintf("not done after %v", workLimit)
		}
		return times(float64(r.perOp) / float64(base))
	}
	lost := func(r hostRun) string {
		if r.stalled {
			return "-"
		}
		text := count(r.notLogged) + " / " + count(r.notAtServer)
		if !r.settled {
			text += " so far"
		}
		return text
	}
	b.printf("| %s | %.1f | %.1f | %s | %s | %s | %s | %s | %s | %s |\n", name, st.perRecord, us.perRecord, times(us.perRecord/st.perRecord),
		fmt.Sprintf("%.1f MiB", float64(st.peak)/(1<<20)), fmt.Sprintf("%.1f MiB", float64(us.peak)/(1<<20)), slower(st), slower(us), lost(st), lost(us))
	return base
}

func medianHost(runs []hostRun) hostRun {
	var m hostRun
	var cpu, kernel []float64
	var peak []int64
	var op []time.Duration
	var logged, server []int
	m.settled = true
	for _, r := range runs {
		cpu, kernel, peak = append(cpu, r.perRecord), append(kernel, r.kernelPer), append(peak, r.peak)
		op, logged, server = append(op, r.perOp), append(logged, r.notLogged), append(server, r.notAtServer)
		m.settled, m.stalled = m.settled && r.settled, m.stalled || r.stalled
	}
	m.perRecord, m.kernelPer, m.peak, m.perOp, m.notLogged, m.notAtServer = median(cpu), median(kernel), median(peak), median(op), median(logged), median(server)
	return m
}

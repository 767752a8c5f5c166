package storetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// Generator makes records as a fleet would send them: real records are its templates, and
// their times, serials, processes, files and users vary as they do on a machine at work. The
// same seed makes the same log. It is for one goroutine.
type Generator struct {
	rng    *rand.Rand
	events [][]template
	hosts  []*genHost
	now    int64 // ms since 1970, of the last event
	step   int64 // most ms between two events of the fleet
}

// genHost is a host of the generated fleet.
type genHost struct {
	name   string
	serial uint64
	procs  []proc
	next   int // pid
}

// proc is a process of a generated host.
type proc struct {
	pid, ppid, ses int
	auid           int
	exe            string
	left           int // events until it ends
	base           uint64
	dir, file      int
	events         []int // the kinds of events it makes, again and again
}

// template is a record, cut at the places that vary.
type template []part

// part is a piece of a template: a text as it is, or a place that fill writes anew by its
// kind, such as "pid"; then lit is what the template had there.
type part struct {
	lit  string
	kind string
}

// varying finds the places that vary in a record.
var varying = regexp.MustCompile(`^node=\S+ |audit\(\d+\.\d+:\d+\)|\b(?:ppid|pid|ses|auid|exit|inode|a[0-3])=[0-9a-fx-]+|\b(?:comm|exe|name)="[^"]*"|\bproctitle=[0-9A-F]+|AUID="[^"]*"`)

// NewGenerator makes a generator of so many hosts, whose events begin at start. The events
// of log are the templates.
func NewGenerator(seed uint64, log []byte, hosts int, start time.Time) *Generator {
	g := &Generator{rng: rand.New(rand.NewPCG(seed, 1)), now: start.UnixMilli(), step: 12, events: cutLog(string(log))}
	for i := range hosts {
		h := &genHost{name: fmt.Sprintf("web%d.example.net", i+1), serial: uint64(1000 + g.rng.IntN(100000)), next: 1000 + g.rng.IntN(20000)}
		for range 12 {
			h.procs = append(h.procs, g.newProc(h))
		}
		g.hosts = append(g.hosts, h)
	}
	return g
}

// cut has the templates of each log, which no generator changes: under the race detector, cutting a log takes longer than
// all that most tests do with a generator.
var cut sync.Map

// cutLog cuts a log's records into templates, by event.
func cutLog(log string) [][]template {
	if known, ok := cut.Load(log); ok {
		return known.([][]template)
	}
	var events [][]template
	stamp := regexp.MustCompile(`audit\(([^)]*)\)`)
	last := ""
	for line := range strings.Lines(log) {
		text := strings.TrimRight(line, "\n")
		m := stamp.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		if m[1] != last {
			events = append(events, nil)
			last = m[1]
		}
		events[len(events)-1] = append(events[len(events)-1], cutTemplate(text))
	}
	cut.Store(log, events)
	return events
}

// cutTemplate cuts a record at the places that vary. A record without node= gets one.
func cutTemplate(text string) template {
	if !bytes.HasPrefix([]byte(text), []byte("node=")) {
		text = "node=x " + text
	}
	var t template
	at := 0
	for _, m := range varying.FindAllStringIndex(text, -1) {
		t = append(t, part{lit: text[at:m[0]]})
		v := text[m[0]:m[1]]
		kind, _, _ := bytes.Cut([]byte(v), []byte("="))
		switch {
		case v[:2] == "au" && v[5] == '(':
			t = append(t, part{kind: "stamp"})
		default:
			t = append(t, part{kind: string(kind), lit: v})
		}
		at = m[1]
	}
	return append(t, part{lit: text[at:]})
}

var genExes = []string{"/usr/sbin/sshd", "/usr/bin/sudo", "/usr/bin/bash", "/usr/bin/cat", "/usr/bin/ls", "/usr/bin/python3.11", "/usr/sbin/cron",
	"/usr/bin/find", "/usr/bin/vim.basic", "/usr/lib/systemd/systemd-journald", "/usr/bin/git", "/usr/sbin/nginx", "/usr/bin/curl",
	"/opt/app/bin/worker", "/usr/bin/apt-get", "/usr/bin/dpkg", "/usr/bin/id", "/usr/bin/grep", "/usr/bin/tar", "/usr/bin/docker"}

// newProc makes a process, which lives for some events.
func (g *Generator) newProc(h *genHost) proc {
	h.next += 1 + g.rng.IntN(3)
	auid, ses := 4294967295, 4294967295
	if n := g.rng.IntN(8); n < 5 {
		auid, ses = 1000+n, 10+int(h.serial/5000)+n
	}
	var events []int
	for range 1 + g.rng.IntN(3) {
		events = append(events, g.rng.IntN(len(g.events)))
	}
	return proc{base: g.rng.Uint64N(1 << 36), dir: g.rng.IntN(50), file: g.rng.IntN(1000), events: events, pid: h.next, ppid: h.next - 1 - g.rng.IntN(400), ses: ses, auid: auid,
		exe: genExes[min(g.rng.IntN(len(genExes)), g.rng.IntN(len(genExes)))], left: 1 + g.rng.IntN(1+g.rng.IntN(40))}
}

// Event makes the records of the fleet's next event, and says of which host it is.
func (g *Generator) Event() (host string, records [][]byte) {
	g.now += g.rng.Int64N(g.step + 1)
	h := g.hosts[g.rng.IntN(len(g.hosts))]
	h.serial++
	i := g.rng.IntN(len(h.procs))
	if h.procs[i].left--; h.procs[i].left < 0 {
		h.procs[i] = g.newProc(h)
	}
	p := &h.procs[i]
	ev := g.events[p.events[g.rng.IntN(len(p.events))]]
	p.file += g.rng.IntN(2)
	for _, t := range ev {
		records = append(records, g.fill(t, h, p))
	}
	return h.name, records
}

// Step sets how many ms at most an event is later than the one before: 12 at first.
func (g *Generator) Step(ms int64) { g.step = ms }

// Now is the time of the last event.
func (g *Generator) Now() time.Time { return time.UnixMilli(g.now) }

// origin sets who sent an event and when it was received, by its serial: most shortly after
// it happened, some much later and all at once; some with records that came later than
// others; some from an address that other hosts have, too; for a few nothing is known.
func (g *Generator) origin(ev *event.Event) {
	n := ev.Serial
	if n%97 == 0 {
		return
	}
	sender := event.Sender{Addr: netip.AddrFrom4([4]byte{192, 0, 2, 1 + ev.Node[3] - '1'}), Transport: event.TransportTCP}
	switch {
	case n%31 == 0:
		sender.Addr = netip.MustParseAddr("2001:db8::1")
	case n%13 == 0:
		sender.Addr = netip.MustParseAddr("192.0.2.9")
	case n%53 == 0:
		sender = event.Sender{Host: "proved.example.net", Transport: event.TransportOwn}
	}
	ev.From = &sender
	at := ev.Ms + int64(n%7)
	if n%211 == 0 {
		at += 86400e3
	}
	for i := range ev.Records {
		if i > 0 && n%17 == 0 {
			at += int64(i) - 1
		}
		ev.Records[i].Received = at
	}
}

// fill makes a record of a template for a process of a host.
func (g *Generator) fill(t template, h *genHost, p *proc) []byte {
	b := make([]byte, 0, 320)
	num := func(name string, v int) {
		b = append(append(b, name...), '=')
		b = strconv.AppendInt(b, int64(v), 10)
	}
	for _, x := range t {
		switch x.kind {
		case "":
			b = append(b, x.lit...)
		case "node":
			b = append(b, "node="+h.name+" "...)
		case "stamp":
			b = fmt.Appendf(b, "audit(%d.%03d:%d)", g.now/1000, g.now%1000, h.serial)
		case "pid":
			num("pid", p.pid)
		case "ppid":
			num("ppid", p.ppid)
		case "ses":
			num("ses", p.ses)
		case "auid":
			num("auid", p.auid)
		case "exit":
			if g.rng.IntN(10) == 0 {
				num("exit", 3+g.rng.IntN(2000))
			} else {
				num("exit", 3)
			}
		case "inode":
			num("inode", 100000+p.dir*2000+p.file)
		case "a0", "a1", "a2", "a3":
			b = append(append(b, x.kind...), '=')
			if len(x.lit) > 8 {
				b = fmt.Appendf(b, "7ff%09x", p.base+16*g.rng.Uint64N(8))
			} else {
				b = append(b, x.lit[3:]...)
			}
		case "comm":
			b = fmt.Appendf(b, "comm=%q", p.exe[bytes.LastIndexByte([]byte(p.exe), '/')+1:])
		case "exe":
			b = fmt.Appendf(b, "exe=%q", p.exe)
		case "name":
			if len(x.lit)%3 == 0 {
				b = append(b, x.lit...)
			} else {
				b = fmt.Appendf(b, `name="/srv/data/%d/file-%d.dat"`, p.dir, p.file)
			}
		case "proctitle":
			b = fmt.Appendf(b, "proctitle=%X00%X", p.exe, []byte("--run="+strconv.Itoa(p.pid)))
		case "AUID":
			if p.auid > 1<<31 {
				b = append(b, `AUID="unset"`...)
			} else {
				b = fmt.Appendf(b, `AUID="user%d"`, p.auid)
			}
		}
	}
	return b
}

// Addr returns the address of the n-th sender of a test.
func Addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}) }

package search

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/logscan"
)

// modelProcess is a process as it really was.
type modelProcess struct {
	node     string
	pid, n   int
	parent   *modelProcess // nil is process 1
	orphan   bool
	began    int
	children []*modelProcess
	seen     []modelSight
	added    int // events without a ppid
}

type modelSight struct{ at, ppid int }

func (p *modelProcess) ppid() int {
	if p.parent == nil || p.orphan {
		return 1
	}
	return p.parent.pid
}

func (p *modelProcess) name() string { return fmt.Sprint("p", p.n) }

// processModel is what happens to the processes of some hosts, and the log of it. A process
// is seen when it begins. Few pids are there, so that they are used again and again.
type processModel struct {
	r      *rand.Rand
	exits  bool // ends are logged
	at     int  // the time
	serial map[string]int
	alive  map[string][]*modelProcess
	last   map[string]map[int]int // the parent that a pid was last seen with
	all    []*modelProcess
	log    []string
}

func (m *processModel) write(p *modelProcess, text string) {
	m.serial[p.node]++
	m.log = append(m.log, fmt.Sprintf("node=%s %s\n", p.node, strings.Replace(text, "AUDIT", fmt.Sprintf("audit(%d.%03d:%d)", 1700000000+m.at/1000, m.at%1000, m.serial[p.node]), 1)))
}

// see logs a system call of a process.
func (m *processModel) see(p *modelProcess, call int) {
	m.write(p, fmt.Sprintf("type=SYSCALL msg=AUDIT: arch=c000003e syscall=%d items=0 ppid=%d pid=%d auid=4294967295 uid=54321 comm=%q exe=\"/bin/%s\"", call, p.ppid(), p.pid, p.name(), p.name()))
	p.seen = append(p.seen, modelSight{m.at, p.ppid()})
	m.last[p.node][p.pid] = p.ppid()
}

func (m *processModel) step() {
	m.at += m.r.IntN(5000)
	node := oneOf(m.r, "a", "b")
	alive := m.alive[node]
	switch m.r.IntN(8) {
	case 0, 1, 2:
		m.fork(node)
	case 3, 4:
		if len(alive) > 0 {
			m.see(alive[m.r.IntN(len(alive))], 257)
		}
	case 5:
		if len(alive) > 0 {
			p := alive[m.r.IntN(len(alive))]
			m.write(p, fmt.Sprintf("type=ADD_USER msg=AUDIT: pid=%d uid=54321 auid=4294967295 ses=1 msg='op=add exe=\"/bin/%s\" res=success'", p.pid, p.name()))
			p.added++
		}
	case 6:
		if len(alive) > 0 {
			m.end(alive[m.r.IntN(len(alive))])
		}
	case 7:
		if m.r.IntN(4) == 0 {
			m.boot(node)
		}
	}
}

// fork begins a process. Where ends are not logged, what no reader could tell is left out:
// a pid that comes again with the same parent, or with process 1.
func (m *processModel) fork(node string) {
	p := &modelProcess{node: node, pid: 100 + m.r.IntN(9), n: len(m.all), began: m.at}
	if alive := m.alive[node]; len(alive) > 0 && m.r.IntN(5) > 0 {
		p.parent = alive[m.r.IntN(len(alive))]
	}
	last, used := m.last[node][p.pid]
	if slices.ContainsFunc(m.alive[node], func(o *modelProcess) bool { return o.pid == p.pid }) || used && !m.exits && (p.parent == nil || last == p.ppid()) {
		return
	}
	m.all, m.alive[node] = append(m.all, p), append(m.alive[node], p)
	if p.parent != nil {
		p.parent.children = append(p.parent.children, p)
	}
	m.see(p, 59)
}

func (m *processModel) end(p *modelProcess) {
	if m.exits {
		m.see(p, 231)
	}
	m.alive[p.node] = slices.DeleteFunc(m.alive[p.node], func(o *modelProcess) bool { return o == p })
	for _, c := range p.children {
		c.orphan = true
	}
	m.at++
}

// boot ends all and begins the serials anew.
func (m *processModel) boot(node string) {
	if m.serial[node] < 20 {
		return // the record of the boot could come after as many events of it
	}
	m.at += 10_000
	m.alive[node], m.serial[node], m.last[node] = nil, 0, map[int]int{}
	m.write(&modelProcess{node: node}, "type=SYSTEM_BOOT msg=AUDIT: pid=1 uid=0 auid=4294967295 ses=4294967295 msg='comm=\"update\" res=success'")
}

// tree is that of a process whose first event found came at a time.
func (p *modelProcess) tree(at int) []string {
	var up []string
	for q := p; ; {
		seen := q.seen[0]
		for _, s := range q.seen {
			if s.at <= at {
				seen = s
			}
		}
		if q != p {
			up = append(up, fmt.Sprintf("%d %d unset 54321 %s (/bin/%[3]s)", q.pid, seen.ppid, q.name()))
		}
		at = min(at, seen.at)
		if seen.ppid == 1 {
			up = append(up, "1 ? ? ? ?")
			break
		}
		q = q.parent
	}
	slices.Reverse(up)
	return up
}

// below are the lines of a process's children.
func (p *modelProcess) below() (out []string) {
	for _, c := range p.children {
		out = append(out, fmt.Sprintf("%d %d unset 54321 %s (/bin/%[3]s)", c.pid, p.pid, c.name()))
		out = append(out, c.below()...)
	}
	return out
}

// TestTreeModel draws trees of random histories of processes, whose pids are used again,
// from logs in order and in disorder, by an index and without one; a model knows them.
func TestTreeModel(t *testing.T) {
	seed, rounds := need.Seed(t), need.Rounds(8, 2)
	drawn, reused := 0, 0
	for round := range rounds {
		m := &processModel{
			r: rand.New(rand.NewPCG(seed, uint64(round))), exits: round%2 == 0,
			serial: map[string]int{"a": 500, "b": 700}, alive: map[string][]*modelProcess{}, last: map[string]map[int]int{"a": {}, "b": {}},
		}
		for range 150 {
			m.step()
		}
		log := slices.Clone(m.log)
		if round%3 == 0 {
			m.r.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })
		}
		src := &logscan.Source{Input: logscan.Input{Path: writeLog(t, strings.Join(log, ""))}}
		pids := map[string]bool{}
		for _, p := range m.all {
			if id := fmt.Sprint(p.node, p.pid); pids[id] {
				reused++
			} else {
				pids[id] = true
			}
			searches := [][]string{{"-c", p.name(), "-w"}}
			if p.added > 0 {
				searches = append(searches, []string{"-m", "ADD_USER", "-x", "/bin/" + p.name(), "-w"})
			}
			for i, args := range searches {
				text := treeFrom(t, src, args...)
				if p.n%4 > 0 {
					// an index is asked for some only: here each of its answers reads all of the log
				} else if got := treeFrom(t, &indexedLog{Source: src}, args...); got != text {
					t.Errorf("%q: from all of the log:\n%s\nby an index:\n%s", args, text, got)
				}
				var got []string
				for _, l := range lines(text) {
					got = append(got, strings.ReplaceAll(l, `\_ `, ""))
				}
				up := p.tree(p.began)
				want := slices.Concat(up, []string{"*"}, p.below())
				own := fmt.Sprintf("*%d %d unset 54321 %s (/bin/%[3]s)", p.pid, p.seen[0].ppid, p.name())
				if want[len(up)] = own; i == 1 { // the parents are those at another time
					got, want = fromStar(got), fromStar(want)
					if len(got) > 0 && strings.Contains(got[0], fmt.Sprintf("*%d 1 ", p.pid)) {
						want[0] = got[0] // an orphan by then
					}
				}
				drawn++
				if !slices.Equal(got, want) {
					t.Fatalf("round %d (AUDITFLEET_SEED=%d), %s %q:\n%s\nwant\n%s\n%s", round, seed, p.node, args, strings.Join(got, "\n"), strings.Join(want, "\n"), strings.Join(m.log, ""))
				}
			}
		}
	}
	t.Logf("%d trees drawn; %d processes had the pid of another", drawn, reused)
	if reused < rounds {
		t.Errorf("only %d processes had the pid of another", reused)
	}
}

func fromStar(tree []string) []string {
	i := slices.IndexFunc(tree, func(l string) bool { return strings.HasPrefix(l, "*") })
	return tree[max(i, 0):]
}

package render

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

const (
	// noteTime is how long a search that is over waits to hear whether what it searched is
	// complete: that is found out beside it. Who asks for the object waits for its answer.
	noteTime, objectTime = 100 * time.Millisecond, 10 * time.Second
	// noteHosts is how many hosts a note names.
	noteHosts = 2
	// noteObject is how many of them its JSON does.
	noteObject = 100
)

// Words of the options about it.
const (
	noCoverageNote = "--no-coverage-note"
	coverageObject = "--coverage"
)

// NoteWait among a search's own options says how long it waits, in place of noteTime. No command line has it: the
// environment says so.
const NoteWait = "note wait"

// Note finds out whether the trails that a search or report looks at are complete in its time, and
// says so where they are not, in a line. Its goroutine is joined by Say.
type Note struct {
	q      *query.Query
	off    bool // no line
	json   bool // the line is an object
	object bool // and there is one in the answer, in any case
	wait   time.Duration
	cancel context.CancelFunc
	done   chan struct{}

	mu            sync.Mutex // guards the rest
	lost, unknown []*fleet.Coverage
	weak          []*fleet.Coverage // unknown, and not worth the line
	err           error
}

// beginNote begins to find out; nil where nobody wants to know.
func beginNote(ctx context.Context, src api.Source, q *query.Query, extra map[string][]string, stock, json bool) *Note {
	_, off := extra[noCoverageNote]
	_, object := extra[coverageObject]
	if stock || off && !object {
		return nil
	}
	n := &Note{q: q, off: off, json: json, object: object && json, wait: noteTime, done: make(chan struct{})}
	if n.object {
		n.wait = objectTime
	}
	if words := extra[NoteWait]; len(words) == 1 {
		if d, err := time.ParseDuration(words[0]); err == nil {
			n.wait = d
		}
	}
	req := &fleet.CoverageRequest{FromMs: q.StartMs, ToMs: q.EndMs, Note: true}
	for _, name := range q.Nodes {
		req.Hosts = append(req.Hosts, []byte(name))
	}
	ctx, n.cancel = context.WithCancel(ctx)
	go func() {
		defer close(n.done)
		err := src.Coverage(ctx, req, func(c *fleet.Coverage) error { // which a collector has looked at already
			if c = api.Lacking(c); c == nil {
				return nil
			}
			return n.add(c)
		})
		n.mu.Lock()
		n.err = err
		n.mu.Unlock()
	}()
	return n
}

// add takes what a host lacks.
func (n *Note) add(c *fleet.Coverage) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch c.GetState() {
	case "lost":
		n.lost = append(n.lost, c)
	case "unknown":
		// Of a host whose sender never says that it lives, much is not known in any long time; and
		// that a name is nobody's, who finds nothing sees.
		if c.GetUnheard() || c.GetRun() == "" && (n.q.StartMs == 0 || n.q.EndMs == 0) {
			n.weak = append(n.weak, c)
		} else {
			n.unknown = append(n.unknown, c)
		}
	}
	return nil
}

// Say writes what was found out: a line to errs where something is missing, or nobody knows, and the
// object to out where it is asked for.
func (n *Note) Say(ctx context.Context, out, errs io.Writer) error {
	if n == nil {
		return nil
	}
	wait := time.NewTimer(n.wait)
	defer wait.Stop()
	late := false
	select {
	case <-n.done:
	case <-wait.C:
		late = true
	}
	n.cancel()
	<-n.done
	if ctx.Err() != nil { // who has gone away reads no note
		return nil
	}
	text := n.text(late)
	if text != "" && !n.off {
		line := text
		if n.json {
			line = n.asJSON(text, late)
		}
		fmt.Fprintln(errs, line)
	}
	if !n.object {
		return nil
	}
	_, err := fmt.Fprintln(out, n.asJSON(text, late))
	return err
}

// text is the line; "" where all is complete.
func (n *Note) text(late bool) string {
	see := "; see `" + n.command() + "`"
	var parts []string
	if len(n.lost) > 0 {
		sum, causes := "", causesOf(n.lost, "lost")
		if total := lostOf(n.lost); total > 0 {
			sum = fmt.Sprintf("%d lost ", total)
		}
		parts = append(parts, fmt.Sprintf("the trail of %s is not complete in this time: %s(%s)", someOf(n.lost), sum, causes))
	}
	if len(n.unknown) > 0 {
		parts = append(parts, fmt.Sprintf("whether the trail of %s is complete in this time is not known (%s)", someOf(n.unknown), causesOf(n.unknown, "unknown")))
	}
	switch {
	case late && parts == nil:
		parts = append(parts, fmt.Sprintf("whether the trails are complete in this time was not found out in %v", n.wait))
	case late:
		parts = append(parts, fmt.Sprintf("of other hosts that was not found out in %v", n.wait))
	case n.err != nil:
		parts = append(parts, fmt.Sprintf("whether the trails are complete in this time could not be found out: %.200v", n.err))
	}
	if parts == nil {
		return ""
	}
	return terminal.Clean("collector: " + strings.ReplaceAll(strings.Join(parts, "; "), "\n", " ") + see)
}

// command is the question that says all.
func (n *Note) command() string {
	words := "collector coverage"
	var names []string
	for _, name := range n.q.Nodes {
		if !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("'\"`\\$&;|<>(){}!#", r) }) && !strings.Contains(name, ",") {
			names = append(names, name)
		}
	}
	if list := strings.Join(names, ","); list != "" && len(list) < 80 {
		if strings.ContainsAny(list, "*?[") {
			list = "'" + list + "'"
		}
		words += " -n " + list
	}
	for _, t := range []struct {
		opt string
		ms  int64
	}{{" -ts ", n.q.StartMs}, {" -te ", n.q.EndMs}} {
		if t.ms != 0 {
			words += t.opt + time.UnixMilli(t.ms).Format("01/02/2006 15:04:05")
		}
	}
	return words
}

// asJSON is the same for programs.
func (n *Note) asJSON(text string, late bool) string {
	type host struct {
		Host   string   `json:"host"`
		State  string   `json:"state"`
		Lost   uint64   `json:"lost"`
		Causes []string `json:"causes"`
	}
	object := struct {
		Complete *bool  `json:"complete"` // null: not found out
		Lost     uint64 `json:"lost"`
		Hosts    []host `json:"hosts"`
		More     int    `json:"more_hosts"`
		Message  string `json:"message,omitempty"`
	}{Lost: lostOf(n.lost), Hosts: []host{}, Message: text}
	all := slices.Concat(n.lost, n.unknown, n.weak)
	if whole := len(all) == 0; !whole || !late && n.err == nil {
		object.Complete = &whole
	}
	for i, c := range all {
		if i == noteObject {
			object.More = len(all) - i
			break
		}
		if len(c.GetHost()) == 0 && c.GetUnheard() { // nobody has sent anything
			continue
		}
		causes := []string{}
		for _, x := range c.GetCauses() {
			if x.GetState() == c.GetState() {
				causes = append(causes, x.GetCause())
			}
		}
		object.Hosts = append(object.Hosts, host{strings.ToValidUTF8(string(c.GetHost()), "\ufffd"), c.GetState(), c.GetLost(), causes})
	}
	b, err := json.Marshal(map[string]any{"coverage": object})
	if err != nil {
		return "" // it has numbers and texts only
	}
	return string(b)
}

func lostOf(list []*fleet.Coverage) (total uint64) {
	for _, c := range list {
		total += c.GetLost()
	}
	return total
}

// someOf names the first hosts of a list.
func someOf(list []*fleet.Coverage) string {
	var names []string
	for _, c := range list[:min(len(list), noteHosts)] {
		names = append(names, fmt.Sprintf("%.100s", c.GetHost()))
	}
	switch more := len(list) - len(names); {
	case more > 0:
		return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), more)
	}
	return strings.Join(names, " and ")
}

// causesOf are the causes of a state, the first three by name.
func causesOf(list []*fleet.Coverage, state string) string {
	var causes []string
	for _, c := range list {
		for _, x := range c.GetCauses() {
			if x.GetState() == state && !slices.Contains(causes, x.GetCause()) {
				causes = append(causes, x.GetCause())
			}
		}
	}
	slices.Sort(causes)
	if len(causes) == 0 {
		return "nobody answers for it"
	}
	if n := len(causes) - 3; n > 0 {
		causes = append(causes[:3], fmt.Sprintf("and %d more causes", n))
	}
	return strings.Join(causes, ", ")
}

package search

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// treeWriter writes trees as text, or as JSON with one object for each tree.
type treeWriter struct {
	out     io.Writer
	o       *Options
	names   interpret.Names
	written int // processes
}

// tree writes the tree of p below its parents, the nearest first.
func (w *treeWriter) tree(p *process, parents []*process) error {
	if w.o.Format.String() == "json" {
		return w.json(p, parents)
	}
	var b strings.Builder
	at := time.UnixMilli(p.ms)
	fmt.Fprintf(&b, "----\ntime->%s", at.Format(time.ANSIC))
	if p.node != "" {
		fmt.Fprintf(&b, " node=%s", w.text(p.node))
	}
	serials := make([]string, 0, len(p.hits))
	for _, h := range p.hits {
		if len(serials) == maxSerials {
			serials = append(serials, fmt.Sprintf("and %d more", len(p.hits)-maxSerials))
			break
		}
		serials = append(serials, strconv.FormatUint(h.serial, 10))
	}
	fmt.Fprintf(&b, " events=%s\n%10s %8s %-12s %-12s COMMAND\n", strings.Join(serials, ","), "PID", "PPID", "AUID", "UID")
	depth := 0
	if up := above(p, parents); up > 0 {
		fmt.Fprintf(&b, "%46s... and more above: --tree -p %d shows them\n", "", up)
	}
	for i := len(parents) - 1; i >= 0; i-- {
		w.line(&b, parents[i], depth)
		depth++
	}
	w.below(&b, p, depth)
	_, err := io.WriteString(w.out, b.String())
	return err
}

const maxSerials = 10

func (w *treeWriter) below(b *strings.Builder, p *process, depth int) {
	w.line(b, p, depth)
	for _, c := range p.children {
		w.below(b, c, depth+1)
	}
	if p.more > 0 {
		fmt.Fprintf(b, "%46s%s... and %d more\n", "", indent(depth), p.more)
	}
}

// above returns the pid that a tree goes on with above its topmost process; 0 where all
// that is known is there.
func above(p *process, parents []*process) int64 {
	if len(parents) < treeDepth {
		return 0
	}
	return max(parents[len(parents)-1].PPID, 0)
}

// mostIndented is how many generations have a place of their own in a line. Those behind
// it stand under one another with their number, so that a line stays as short.
const mostIndented = 20

// indent is what stands before a process so far down.
func indent(depth int) string {
	if depth <= mostIndented {
		return strings.Repeat("    ", depth)
	}
	return strings.Repeat("    ", mostIndented) + fmt.Sprintf("[%d] ", depth)
}

// line is a process; a hit has a star in front.
func (w *treeWriter) line(b *strings.Builder, p *process, depth int) {
	w.written++
	star := " "
	if len(p.hits) > 0 {
		star = "*"
	}
	ppid := "?"
	if p.PPID >= 0 {
		ppid = strconv.FormatInt(p.PPID, 10)
	}
	fmt.Fprintf(b, "%s%9d %8s %s %s ", star, p.PID, ppid, terminal.Pad(w.user(p.AUID, p.AUIDName), 12), terminal.Pad(w.user(p.UID, p.UIDName), 12))
	if depth > 0 {
		b.WriteString(indent(depth-1) + ` \_ `)
	}
	switch {
	case p.Comm == "" && p.Exe == "":
		b.WriteString("?")
	case p.Exe == "":
		b.WriteString(w.text(p.Comm))
	default:
		b.WriteString(w.text(p.Comm) + " (" + w.text(p.Exe) + ")")
	}
	b.WriteByte('\n')
}

func (w *treeWriter) text(s string) string {
	return string(interpret.AppendEscaped(nil, []byte(s), w.o.Escape))
}

// user is a user's name, that of the record before that of this machine, or the
// number where there is none.
func (w *treeWriter) user(id int64, name string) string {
	switch {
	case name != "":
		return w.text(name)
	case id < 0:
		return "?"
	case id == query.UnsetID:
		return "unset"
	}
	if name, ok := w.names.User(uint32(id)); ok { // of the host of the tree
		return name
	}
	return strconv.FormatInt(id, 10)
}

// treeNode is a process in JSON. Fields that no event mentions are omitted.
type treeNode struct {
	PID      int64       `json:"pid"`
	PPID     *int64      `json:"ppid,omitempty"`
	AUID     *int64      `json:"auid,omitempty"`
	AUIDName string      `json:"auid_name,omitempty"` // where the records have it
	UID      *int64      `json:"uid,omitempty"`
	UIDName  string      `json:"uid_name,omitempty"`
	Comm     string      `json:"comm,omitempty"`
	Exe      string      `json:"exe,omitempty"`
	Seen     string      `json:"seen,omitempty"`     // the first event that tells of it
	Hits     []uint64    `json:"hits,omitempty"`     // serials of the events found
	More     bool        `json:"more,omitempty"`     // there are more children
	LeftOut  int         `json:"left_out,omitempty"` // how many
	Children []*treeNode `json:"children,omitempty"`
}

func (w *treeWriter) json(p *process, parents []*process) error {
	root := w.nodeOf(p)
	for _, up := range parents {
		n := w.nodeOf(up)
		n.Children = []*treeNode{root}
		root = n
	}
	text, err := json.Marshal(struct {
		Host  string    `json:"host"`
		Above int64     `json:"above,omitempty"` // the pid of which the tree goes on above
		Tree  *treeNode `json:"tree"`
	}{p.node, above(p, parents), root})
	if err != nil {
		return fmt.Errorf("write tree: %w", err)
	}
	_, err = w.out.Write(append(text, '\n'))
	return err
}

func (w *treeWriter) nodeOf(p *process) *treeNode {
	w.written++
	n := &treeNode{PID: p.PID, AUIDName: p.AUIDName, UIDName: p.UIDName, Comm: p.Comm, Exe: p.Exe, More: p.more > 0, LeftOut: p.more}
	number := func(v int64) *int64 {
		if v < 0 {
			return nil
		}
		return &v
	}
	n.PPID, n.AUID, n.UID = number(p.PPID), number(p.AUID), number(p.UID)
	if p.ms > 0 {
		n.Seen = time.UnixMilli(p.ms).UTC().Format("2006-01-02T15:04:05.000Z")
	}
	for _, h := range p.hits {
		n.Hits = append(n.Hits, h.serial)
	}
	for _, c := range p.children {
		n.Children = append(n.Children, w.nodeOf(c))
	}
	return n
}

// close says how many of the events found are of no process.
func (w *treeWriter) close(none uint64) error {
	if none == 0 || w.o.Format.String() == "json" {
		return nil
	}
	_, err := fmt.Fprintf(w.out, "----\n%d of the events found name no process\n", none)
	return written(err)
}

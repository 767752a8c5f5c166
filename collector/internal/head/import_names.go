package head

import (
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// importNames are the names that an import was given. Head.mu guards them.
type importNames struct {
	given map[string]bool     // to hosts of which nothing is stored yet; each has a place among MaxHosts
	alike map[string][]string // of all hosts, and those given, as FoldName has them; nil where no import has asked
}

// ImportName returns the name under which events of a node are stored, and those of other hosts whose names differ from that
// in case only (event.FoldName). That is the node's own, or the one of the host whose name differs in case only; or "" where there are
// too many hosts to tell it apart from others, or its name is too long. A name that it returns has a place among hosts until its
// batch comes, or until LeaveImportNames.
func (h *Head) ImportName(node string) (name string, alike []string) {
	if len(node) > maxName {
		return "", nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	n := &h.importNames
	if n.alike == nil {
		n.alike, n.given = map[string][]string{}, map[string]bool{}
		for x := range h.hosts {
			folded := event.FoldName(x)
			n.alike[folded] = append(n.alike[folded], x)
		}
	}
	folded := event.FoldName(node)
	others := n.alike[folded]
	switch {
	case h.hosts[node] != nil || n.given[node]:
		name = node
	case len(others) > 0:
		name = slices.Min(others)
	case h.named+len(n.given) >= h.opts.MaxHosts:
		return "", nil
	default:
		name = strings.Clone(node)
		n.given[name] = true
		n.alike[folded] = []string{name}
	}
	return name, slices.DeleteFunc(slices.Clone(n.alike[folded]), func(x string) bool { return x == name })
}

// LeaveImportNames gives back the places of names of which no batch has come: the import has ended.
func (h *Head) LeaveImportNames() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.importNames = importNames{}
}

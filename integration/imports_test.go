package integration

import (
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/auditfleet/auditfleet"

// mayImport says, for a folder, which folders of this module it may import
// (itself and what lies below it are always allowed). The longest matching
// prefix of a folder decides; a folder with no entry fails the test. Tests may
// also import internal/need and what lies below integration/harness.
var mayImport = map[string][]string{
	"collector":                   {"collector/internal/cli", "pkg/built"},
	"collector/internal/cli":      {"collector/internal", "pkg", "proto"},
	"collector/internal/server":   {"collector/internal", "pkg", "proto"},
	"collector/internal/poll":     {},
	"collector/internal/alert":    {"collector/internal/head", "collector/internal/ledger", "collector/internal/store", "pkg/conf", "pkg/fsys", "pkg/metrics", "pkg/nearest", "pkg/query", "pkg/wake"}, // store: its tests,
	"collector/internal/enroll":   {"collector/internal/seldom", "pkg/pki", "pkg/fsys", "proto/enroll"},
	"collector/internal/seldom":   {},
	"collector/internal/jsonfile": {"pkg/fsys"},
	"collector/internal/rates":    {"collector/internal/store", "pkg/wake"},
	"collector/internal/fanout":   {"pkg/conf", "pkg/dispatch", "pkg/event", "pkg/record"}, // conf and record: its tests
	"collector/internal/outgrown": {"collector/internal/head", "collector/internal/journal", "pkg/wake"},
	"collector/internal/listen":   {"collector/internal/poll", "collector/internal/proxied", "collector/internal/seldom", "pkg/metrics", "pkg/wake"},
	"collector/internal/proxied":  {"proto/proxy"},
	"collector/internal/journal":  {"collector/internal/underway", "pkg/event", "pkg/fsys", "pkg/seglog", "pkg/varint", "pkg/wake"},
	"collector/internal/store":    {"collector/internal/ledger", "pkg/seglog", "pkg/varint", "pkg/query", "pkg/event", "pkg/record", "pkg/tables"},
	"collector/internal/importer": {"collector/internal/head", "collector/internal/journal", "collector/internal/store", "pkg/event", "pkg/importing", "pkg/oldlogs", "pkg/query", "pkg/record"}, // journal: its tests
	"collector/internal/api":      {"collector/internal/importer", "pkg/importing", "pkg/oldlogs", "collector/internal/hold", "collector/internal/seal", "collector/internal/ledger", "pkg/daemonrec", "collector/internal/store", "pkg/fsys", "pkg/nss", "pkg/tables", "pkg/pki/calltls", "pkg/query", "pkg/event", "pkg/record", "pkg/terminal", "proto"},
	"collector/internal/head":     {"collector/internal/underway", "collector/internal/ledger", "collector/internal/store", "collector/internal/journal", "collector/internal/seal", "pkg/checkpoint", "pkg/fsys", "pkg/wake", "pkg/query", "pkg/event", "pkg/record", "pkg/tables"},                                                                                                                 // seal, checkpoint: its benchmark
	"collector/internal/ingest":   {"pkg/checkpoint", "pkg/psktls", "collector/internal/proxied", "collector/internal/intake", "collector/internal/journal", "collector/internal/poll", "collector/internal/seldom", "collector/internal/space", "pkg/event", "pkg/fsys/faultfs", "pkg/metrics", "pkg/pki", "pkg/sockets", "pkg/wake", "proto/fleet", "proto/ingest", "proto/proxy", "proto/remote"}, // faultfs, space: its tests
	"collector/internal/intake":   {"collector/internal/journal", "collector/internal/seldom", "collector/internal/space", "pkg/event", "pkg/fsys", "pkg/metrics", "pkg/seglog", "pkg/wake"},
	"collector/internal/ledger":   {"pkg/record", "pkg/tables", "pkg/varint"},
	"collector/internal/sink":     {"pkg"},
	"collector/internal/seal":     {"pkg/checkpoint", "pkg/fsys", "pkg/seglog", "pkg/varint"},
	"collector/internal/space":    {"pkg"},
	"forwarder":                   {"forwarder/internal/cli", "pkg/built"},
	"forwarder/internal/cli":      {"forwarder/internal", "pkg", "proto"},
	"forwarder/internal/agent":    {"forwarder/internal", "pkg", "proto"},
	"forwarder/internal/boot":     {"pkg"},
	"forwarder/internal/kernel":   {"forwarder/internal/boot", "pkg"},
	"forwarder/internal/lines":    {"forwarder/internal/kernel", "pkg"},
	"forwarder/internal/locallog": {"pkg"},
	"forwarder/internal/spool":    {"pkg"},
	"forwarder/internal/ship":     {"pkg/wake", "proto/remote"}, // the servers of its tests speak it
	"forwarder/internal/enroll":   {"pkg/fsys", "pkg/pki", "proto/enroll"},
	"forwarder/internal/doctor":   {"forwarder/internal/boot", "forwarder/internal/kernel", "forwarder/internal/spool", "pkg"},
	"forwarder/internal/witness":  {"pkg/checkpoint", "pkg/fsys", "pkg/wake"},
	"forwarder/internal/trace":    {"forwarder/internal/kernel", "pkg"},
	"proto/remote":                {},
	"proto/fleet":                 {},
	"proto/enroll":                {},
	"proto/ingest":                {},
	"proto/proxy":                 {},
	"pkg/tables":                  {},
	"pkg/record":                  {"pkg/tables"},
	"pkg/search/reallog":          {"internal/need"},
	"pkg/search/madelog":          {"pkg/tables"},
	"pkg/event":                   {"pkg/record", "pkg/tables"},
	"pkg/nss":                     {},
	"pkg/interpret":               {"pkg/event", "pkg/nss", "pkg/record", "pkg/tables", "pkg/search/reallog"}, // its tests record real logs, and name accounts
	"pkg/normalize":               {"pkg/interpret", "pkg/record", "pkg/tables"},
	"pkg/built":                   {},
	"deploy/packages/texts":       {},
	"pkg/option":                  {},
	"pkg/completion":              {"pkg/option", "pkg/terminal"},
	"pkg/nearest":                 {},
	"pkg/command":                 {"pkg/nearest", "pkg/timespec"},
	"pkg/timespec":                {},
	"pkg/settings":                {"pkg/conf", "pkg/option"},
	"pkg/rules":                   {"pkg/fsys", "pkg/nearest", "pkg/nss", "pkg/option", "pkg/tables"},
	"pkg/pki":                     {"pkg/fsys"},
	"pkg/conf":                    {"pkg/fsys", "pkg/nearest", "pkg/nss", "pkg/psktls"},
	"pkg/query":                   {"pkg/nss", "pkg/interpret", "pkg/event", "pkg/record", "pkg/tables"},
	"pkg/logscan":                 {"pkg/fsys", "pkg/query", "pkg/event", "pkg/record", "pkg/tables"},
	"pkg/importing":               {"pkg/oldlogs", "pkg/terminal", "proto/fleet"}, // the one of pkg that makes a call of proto
	"pkg/oldlogs":                 {"pkg/fsys", "pkg/logscan", "pkg/record"},
	"pkg/output":                  {"pkg/nss", "pkg/terminal", "pkg/normalize", "pkg/interpret", "pkg/event", "pkg/record", "pkg/tables", "pkg/search/madelog"}, // its tests write made logs
	"pkg/search":                  {"pkg/fsys", "pkg/nearest", "pkg/nss", "pkg/option", "pkg/terminal", "pkg/query", "pkg/logscan", "pkg/output", "pkg/interpret", "pkg/event", "pkg/record", "pkg/tables", "pkg/timespec"},
	"pkg/report":                  {"pkg/nearest", "pkg/nss", "pkg/option", "pkg/terminal", "pkg/query", "pkg/logscan", "pkg/output", "pkg/search", "pkg/interpret", "pkg/event", "pkg/record", "pkg/tables", "pkg/timespec"},
	"pkg/last":                    {"pkg/command", "pkg/event", "pkg/fsys", "pkg/interpret", "pkg/logscan", "pkg/nss", "pkg/option", "pkg/output", "pkg/query", "pkg/record", "pkg/tables"},
	"pkg/daemonrec":               {},
	"pkg/checkpoint":              {},
	"pkg/psktls":                  {},
	"pkg/dispatch":                {"pkg/conf", "pkg/syslog", "pkg/wake"},
	"pkg/syslog":                  {},
	"pkg/action":                  {"pkg/conf", "pkg/syslog"},
	"pkg/seglog":                  {"pkg/fsys"},
	"pkg/fsys":                    {},
	"pkg/metrics":                 {},
	"pkg/terminal":                {},
	"pkg/service":                 {},
	"pkg/sockets":                 {},
	"pkg/varint":                  {},
	"pkg/wake":                    {},
	"collector/internal/underway": {},
	"integration":                 {"internal", "pkg", "proto"},

	"collector/internal/descriptors": {},
	"collector/internal/several":     {"collector/internal/api", "collector/internal/ledger", "collector/internal/store", "pkg/event", "pkg/query", "pkg/record", "pkg/tables", "proto"},
	"collector/internal/roster":      {"collector/internal/api", "collector/internal/head", "collector/internal/ledger", "collector/internal/several", "collector/internal/store", "pkg/event", "pkg/query", "pkg/wake", "proto"},
	"collector/internal/render":      {"collector/internal/api", "pkg/event", "pkg/interpret", "pkg/option", "pkg/output", "pkg/query", "pkg/record", "pkg/report", "pkg/search", "pkg/terminal", "proto"}, // interpret, record and proto: its tests

	"collector/internal/store/clickhouse":    {"collector/internal/eventtree", "collector/internal/ledger", "collector/internal/store", "pkg/event", "pkg/fsys", "pkg/query"},
	"collector/internal/store/engine":        {"collector/internal/jsonfile", "collector/internal/store", "pkg/fsys", "pkg/seglog"},
	"collector/internal/store/bolt":          {"collector/internal/eventtree", "collector/internal/ledger", "collector/internal/seal", "collector/internal/store", "internal/holder", "pkg/fsys", "pkg/seglog", "pkg/query", "pkg/event"},
	"collector/internal/store/bolt/layout":   {"collector/internal/ledger", "collector/internal/store", "pkg/fsys", "pkg/seglog", "pkg/varint"},
	"collector/internal/store/bolt/manifest": {"collector/internal/jsonfile", "collector/internal/store", "pkg/fsys", "pkg/seglog"},
	"collector/internal/store/bolt/pages":    {"collector/internal/store"},
	"collector/internal/store/bolt/raw":      {"collector/internal/store", "pkg/seglog", "pkg/event", "pkg/fsys"}, // fsys: the manifest's
	"collector/internal/store/bolt/rewrite":  {"collector/internal/store", "pkg/seglog", "pkg/event"},
	"collector/internal/store/bolt/upkeep":   {"collector/internal/eventtree", "collector/internal/head", "collector/internal/seal", "pkg/checkpoint", "collector/internal/hold", "collector/internal/journal", "collector/internal/ledger", "collector/internal/store", "pkg/fsys", "pkg/seglog", "pkg/query", "pkg/event", "pkg/record"}, // ledger: its tests
	"collector/internal/eventtree":           {"pkg/event"},
	"collector/internal/evidence":            {"collector/internal/eventtree", "collector/internal/seal", "collector/internal/store", "pkg/checkpoint", "pkg/event", "pkg/fsys", "pkg/query", "pkg/seglog"}, // seglog: its tests
	"collector/internal/hold":                {"collector/internal/jsonfile", "collector/internal/store", "pkg/event", "pkg/fsys", "pkg/query"},
	"collector/internal/store/group/rows":    {"collector/internal/store", "internal/need", "pkg/varint"},          // store: its tests
	"collector/internal/store/order":         {"collector/internal/store", "pkg/event", "pkg/query", "pkg/tables"}, // tables: its tests
	"collector/internal/store/group":         {"collector/internal/eventtree", "collector/internal/store", "pkg/query", "pkg/event", "pkg/record", "pkg/varint"},

	"collector/internal/retention": {"collector/internal/store", "pkg/conf", "pkg/metrics", "pkg/wake"},
	"collector/internal/trusted":   {"pkg/event", "pkg/fsys", "pkg/query"},
	"collector/internal/selfaudit": {"collector/internal/api", "collector/internal/head", "collector/internal/journal", "collector/internal/listen", "pkg/daemonrec", "pkg/event", "pkg/metrics", "pkg/pki", "pkg/interpret", "pkg/record"}, // interpret and record: its tests

	"internal/holder": {},

	// What only tests import.
	"internal/golden":                      {},
	"internal/madeday":                     {},
	"internal/need":                        {"internal/holder"},
	"internal/testca":                      {},
	"forwarder/internal/kernel/kerneltest": {"forwarder/internal/kernel", "internal/need", "pkg"},
	"collector/internal/store/storetest":   {"collector/internal/eventtree", "collector/internal/ledger", "collector/internal/store", "internal/need", "pkg/event", "pkg/query", "pkg/record", "pkg/seglog"},
	"pkg/metrics/metricstest":              {"internal/golden", "internal/need", "pkg/metrics"},
	"forwarder/internal/ship/remote":       {"forwarder/internal/ship", "pkg/sockets", "proto/remote"},
	"forwarder/internal/ship/grpc":         {"forwarder/internal/ship", "forwarder/internal/witness", "pkg/checkpoint", "pkg/pki", "proto/fleet", "proto/ingest"},
}

func within(dir, parent string) bool {
	return dir == parent || strings.HasPrefix(dir, parent+"/")
}

// ruleFor returns the entry of the longest prefix of dir.
func ruleFor(dir string) (rule string, allowed []string, ok bool) {
	for at := dir; ; {
		if list, found := mayImport[at]; found {
			return at, list, true
		}
		cut := strings.LastIndexByte(at, '/')
		if cut < 0 {
			return "", nil, false
		}
		at = at[:cut]
	}
}

func repoRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("not below the module's root: %v", err)
	}
	return root
}

// goDirs lists every folder with Go files, relative to the root.
func goDirs(t *testing.T, root string) []string {
	t.Helper()
	seen := map[string]bool{}
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == "testdata" || name == "bin" || (strings.HasPrefix(name, ".") && path != root) {
				return fs.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".go") && !seen[rel] {
			seen[rel] = true
			dirs = append(dirs, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

func TestImportsOneWay(t *testing.T) {
	root := repoRoot(t)
	for _, dir := range goDirs(t, root) {
		rule, allowed, ok := ruleFor(dir)
		if !ok {
			t.Errorf("%s: no entry in mayImport: decide what it may import and add it", dir)
			continue
		}
		pkg, err := build.ImportDir(filepath.Join(root, dir), 0)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		tests := append(append([]string{}, pkg.TestImports...), pkg.XTestImports...)
		for i, imp := range append(tests, pkg.Imports...) {
			to, ours := strings.CutPrefix(imp, module+"/")
			if !ours || within(to, rule) || i < len(tests) && (within(to, "internal") || within(to, "integration/harness")) {
				continue
			}
			good := false
			for _, a := range allowed {
				good = good || within(to, a)
			}
			if !good {
				t.Errorf("%s imports %s: %s may import only %v", dir, to, rule, allowed)
			}
		}
	}
}

func TestOnePackageComment(t *testing.T) {
	root := repoRoot(t)
	for _, dir := range goDirs(t, root) {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		comments, sources := 0, 0
		for _, e := range entries {
			name := e.Name()
			if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Errorf("%s/%s: %v", dir, name, err)
				continue
			}
			sources++
			if file.Doc != nil && !strings.HasSuffix(name, ".pb.go") {
				comments++
			}
		}
		if sources > 0 && comments != 1 {
			t.Errorf("%s: %d package comments, want one", dir, comments)
		}
	}
}

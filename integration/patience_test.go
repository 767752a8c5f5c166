package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// patient are functions that wait for something to come about, at most for the time that an argument says. A time that is
// long on a quiet machine is too short on a busy one, so it is a minute at least; only a test that fails waits that
// long. Less than three seconds is what a test waits for that is not to come.
var patient = []string{"After", "AfterFunc", "DialTimeout", "Poll", "Run", "RunInput", "SetDeadline", "SetReadDeadline", "SetWriteDeadline", "Terminate", "Wait", "WaitReady", "WithTimeout", "closedWithin", "reply"}

// impatient are the exceptions, by file and function called, and why.
var impatient = map[string]string{
	"integration/queue_error_test.go Poll":           "that it goes on is shown by waiting",
	"forwarder/internal/cli/stuck_test.go AfterFunc": "a stock daemon that is stuck with its plugin never ends by itself",
}

// TestPatienceOfEveryPackage finds deadlines of tests that a busy machine does not keep.
func TestPatienceOfEveryPackage(t *testing.T) {
	root := repoRoot(t)
	for _, dir := range goDirs(t, root) {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if !strings.HasSuffix(path, "_test.go") && dir != "integration/harness" && dir != "internal/need" {
				continue
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || !slices.Contains(patient, called(call)) || impatient[dir+"/"+filepath.Base(path)+" "+called(call)] != "" {
					return true
				}
				for _, arg := range call.Args {
					if add, ok := arg.(*ast.CallExpr); ok && called(add) == "Add" && len(add.Args) == 1 { // time.Now().Add(…)
						arg = add.Args[0]
					}
					if s := seconds(arg); s >= 3 && s < 60 {
						t.Errorf("%s: %d seconds are too few where a machine is busy: wait a minute, or name it in impatient", fset.Position(call.Pos()), s)
					}
				}
				return true
			})
		}
	}
}

// called is the name of the function that is called.
func called(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// seconds is N of N*time.Second, 0 of anything else.
func seconds(e ast.Expr) int {
	product, ok := e.(*ast.BinaryExpr)
	if !ok || product.Op != token.MUL {
		return 0
	}
	number, ok := product.X.(*ast.BasicLit)
	unit, ok2 := product.Y.(*ast.SelectorExpr)
	if !ok || !ok2 || unit.Sel.Name != "Second" {
		return 0
	}
	n, err := strconv.Atoi(number.Value)
	if err != nil {
		return 0
	}
	return n
}

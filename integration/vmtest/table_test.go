package vmtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The table of README.md has each test that boots a host, and no other.
func TestTableIsWhatIsTried(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var said, tried []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z]\w+) \|`).FindAllStringSubmatch(string(page), -1) {
		said = append(said, m[1])
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(f.Name.Name, "Test") || len(f.Body.List) == 0 {
				continue
			}
			if first, ok := f.Body.List[0].(*ast.ExprStmt); ok {
				if call, ok := first.X.(*ast.CallExpr); ok {
					if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "row" {
						tried = append(tried, strings.TrimPrefix(f.Name.Name, "Test"))
					}
				}
			}
		}
	}
	slices.Sort(said)
	slices.Sort(tried)
	if !slices.Equal(said, tried) {
		t.Errorf("README.md has the rows %v, the tests are %v", said, tried)
	}
}

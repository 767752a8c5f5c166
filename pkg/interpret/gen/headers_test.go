package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const header = `#ifndef X /* not an
enum { COMMENT } */
#define X_A 0x10 /* one */
#define X_B (X_A | 1)	// two
#define X_C 010
# define X_D (1U << 5)
#define X_E ((X_A) + \
	2)
#define X_F sizeof(int)
#define X_G _IOR('T', 0x30, unsigned int)
#define X_H _IO('S',2)
#define X_LOOP X_LOOP
#define OTHER 1
enum kind { X_I, X_J = 7, X_K, /* X_NONE, */
#define X_K X_K
	X_L = X_B, };
#endif
`

func TestTable(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.h"), []byte(header), 0o600); err != nil {
		t.Fatal(err)
	}
	h := headers{root: dir, arch: "none"}
	for _, c := range []struct {
		table table
		want  []entry
	}{
		{
			table{headers: []string{"x.h"}, match: "X_.*", skip: "X_C"},
			[]entry{
				{0, "X_I"}, {7, "X_J"}, {8, "X_K"}, {0x10, "X_A"}, {0x11, "X_L"}, {0x12, "X_E"}, {0x20, "X_D"},
				{'S'<<8 | 2, "X_H"}, {2<<30 | 4<<16 | 'T'<<8 | 0x30, "X_G"},
			},
		},
		{
			table{headers: []string{"x.h"}, match: "X_[IJK]", enum: "kind", trim: "X_", lower: true, max: 7},
			[]entry{{0, "i"}, {7, "j"}},
		},
		{
			table{headers: []string{"x.h"}, match: "X_C", rename: map[string]string{"X_C": "Y"}, extra: map[string]uint64{"Z": 1, "W": 8}},
			[]entry{{1, "Z"}, {8, "Y"}},
		},
	} {
		got, err := h.table(c.table)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(entry{})); diff != "" {
			t.Errorf("%s: %s", c.table.match, diff)
		}
	}
	if _, err := h.table(table{headers: []string{"x.h"}, match: "NOTHING"}); err == nil {
		t.Error("a table of nothing is no error")
	}
	if _, err := h.table(table{headers: []string{"y.h"}, match: "X"}); err == nil {
		t.Error("a header that is not there is no error")
	}
}

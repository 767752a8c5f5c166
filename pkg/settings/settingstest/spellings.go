// Package settingstest compares how a program takes its settings from flags and from a file.
// Only tests import it.
package settingstest

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/settings"
)

// spellings are values of every kind, in the forms in which people write them.
var spellings = []string{
	"0", "1", "10", "4096", "-1", "1M", "1MiB", "4mb", "1G", "64K", "1T", "5s", "300ms", "90", "2m", "10m", "1h30m", "24h", "7d", "0s", "1.5h",
	"yes", "no", "YES", "true", "false", "info", "DEBUG", "sync", "/abs/path", "name", "a,b", "127.0.0.1:1", ":60", "50%", "1000-2000", "x y",
}

// Same fails unless each setting of a table that is a flag and a key takes the same spellings in
// both, and has the same value then; and unless every size takes 4M and every time 10m. table
// returns a fresh table, and schema what a file of it may have.
func Same(t *testing.T, table func() settings.Table, schema func(settings.Table) conf.Schema) {
	t.Helper()
	compared := 0
	for s := range table().All() {
		if s.In != settings.FileAndFlag {
			continue
		}
		file := table()
		keys := schema(file)
		for _, spelling := range spellings {
			byFlag, errFlag := flagged(settings.Table{{List: []settings.Setting{s}}}, s.Name, spelling)
			byFile, errFile := filed(file, keys, s.Name, spelling)
			if spelling == "x y" && s.Words >= 0 || errFile != nil && strings.Contains(errFile.Error(), "is not an absolute path") {
				continue // several words, and a relative path, are for a command line only
			}
			compared++
			if (errFlag == nil) != (errFile == nil) || errFlag == nil && byFlag != byFile {
				t.Errorf("%s: %q is %q, %v as a flag, and %q, %v in a file", s.Name, spelling, byFlag, errFlag, byFile, errFile)
			}
			must := spelling == "4mb" && strings.HasPrefix(s.Arg, "SIZE") || spelling == "10m" && (s.Arg == "DURATION" || s.Arg == "TIME")
			if must && errFile != nil && !strings.Contains(errFile.Error(), "too ") {
				t.Errorf("%s = %s: %v", s.Name, spelling, errFile)
			}
		}
	}
	if compared < 500 {
		t.Errorf("only %d spellings were compared", compared)
	}
}

func flagged(table settings.Table, name, value string) (string, error) {
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	table.AddFlags(flags)
	if err := flags.Parse([]string{"--" + settings.FlagName(name) + "=" + value}); err != nil {
		return "", err
	}
	err := table.Apply(flags)
	return get(table, name), err
}

func filed(table settings.Table, schema conf.Schema, name, value string) (string, error) {
	_, err := conf.Parse("f", []byte(name+" = "+value+"\n"), schema)
	return get(table, name), err
}

func get(table settings.Table, name string) string {
	for s := range table.All() {
		if s.Name == name && s.Get != nil {
			return s.Get()
		}
	}
	return ""
}

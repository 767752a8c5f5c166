package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// sealKey makes a key that signs, and returns its file.
func (b *bench) sealKey() (string, error) {
	dir, err := b.scratch("key")
	if err != nil {
		return "", err
	}
	key := filepath.Join(dir, "key")
	res, err := harness.Run(time.Minute, b.bins.Collector, "seal", "init", "--key", key, "--name", "bench")
	if err != nil || res.Code != 0 {
		return "", fmt.Errorf("seal init: %w: %s", err, res.Stderr)
	}
	return key, os.WriteFile(key+".pub", res.Stdout, 0o600)
}

// seal shows what it takes to check a store, and to make and check a bundle of evidence.
func (b *bench) seal() (err error) {
	const hosts = 100
	key, err := b.sealKey()
	if err != nil {
		return err
	}
	dir, err := b.scratch("seal")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	store := filepath.Join(dir, "store")
	o := harness.CollectorOptions{Store: store, Args: []string{"--seal-key", key}}
	c, err := harness.StartCollector(b.bins, o)
	if err != nil {
		return err
	}
	defer func() { c.Kill() }()
	load := harness.Load{Addr: c.Addr(), Corpus: b.raw, Conns: 50, Window: 256, Hosts: hosts, Records: 2_000_000 * b.scale, RareKey: "rare", RareEvery: 1000}
	got, err := load.Run(b.ctx)
	if err != nil {
		return err
	}
	if err := c.Terminate(2 * time.Minute); err != nil {
		return err
	}
	checkpoint := filepath.Join(dir, "checkpoint")
	res, err := harness.Run(time.Minute, b.bins.Collector, "seal", "--store", store)
	if err == nil {
		err = os.WriteFile(checkpoint, res.Stdout, 0o600)
	}
	if err != nil {
		return err
	}
	b.printf("## What checking takes\n\nA store with a key, %s records of %d hosts (%s of text), whole process; bundles are made by a collector that has the store, verify reads it without one.\n\n| command | took | says |\n|---|---|---|\n", count(got.Acked), hosts, mib(got.Bytes))
	bundle := func(name string) string { return filepath.Join(dir, name) }
	for i, row := range []struct {
		name string
		args []string
	}{
		{"`verify --checkpoint`", []string{"verify", "--store", store, "--checkpoint", checkpoint, "--key", key + ".pub"}},
		{"`verify` (every record, every index)", []string{"verify", "--store", store}},
		{"`evidence -n host0007`", []string{"evidence", "-n", "host0007", "--store", store, "--out", bundle("host")}},
		{"`evidence verify` of it", []string{"evidence", "verify", bundle("host"), "--key", key + ".pub"}},
		{"`evidence -k rare`", []string{"evidence", "-k", "rare", "--store", store, "--out", bundle("rare")}},
		{"`evidence verify` of it", []string{"evidence", "verify", bundle("rare"), "--key", key + ".pub"}},
	} {
		if i == 2 {
			if c, err = harness.StartCollector(b.bins, o); err != nil {
				return err
			}
		}
		begin := time.Now()
		res, err := harness.Run(5*time.Minute, append([]string{b.bins.Collector}, row.args...)...)
		took := time.Since(begin)
		if err != nil || res.Code != 0 {
			b.fail("%s: %v: exit %d: %.300s%.300s", row.name, err, res.Code, res.Stdout, res.Stderr)
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(res.Stdout)), "\n")
		says := strings.ReplaceAll(lines[len(lines)-1], dir+"/", "")
		if out := row.args[len(row.args)-1]; row.args[len(row.args)-2] == "--out" {
			files, err := os.ReadDir(out)
			if err != nil {
				return err
			}
			size := int64(0)
			for _, f := range files {
				if info, err := f.Info(); err == nil {
					size += info.Size()
				}
			}
			says += "; a bundle of " + mib(size)
		}
		b.printf("| %s | %s | %s |\n", row.name, short(took), says)
	}
	b.printf("\n")
	return nil
}

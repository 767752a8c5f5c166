package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// slowLink is the bandwidth of the third link, in bytes a second: 10 Mbit/s.
const slowLink = 10_000_000 / 8

// transportRun is records over a link, and what they cost.
type transportRun struct {
	linkRun
	server float64 // its CPU seconds a million records
	wire   float64 // bytes a record, to the server
}

// transports compares what senders and servers speak, over three links.
func (b *bench) transports() error {
	const stockRecords = 100
	b.printf("## Transports\n\nFrom the start of the sender to its end, all acknowledged; sync. Wire is what went to the server, TLS and its handshake included, TCP's and IP's heads not.\n")
	b.printf("Median of %d.\n\n| link | sender → server | records/s | ratio | sender CPU s/M | server CPU s/M | wire bytes a record |\n|---|---|---|---|---|---|---|\n", b.rounds)
	pki, err := b.scratch("pki")
	if err != nil {
		return err
	}
	defer os.RemoveAll(pki)
	if err := b.certificates(pki); err != nil {
		return err
	}
	for _, l := range []struct {
		name    string
		oneWay  time.Duration
		rate    int64
		records int
		stock   int
	}{{"loopback", 0, 0, 300_000 * b.scale, 50 * stockRecords}, {"50 ms", oneWay, 0, 100_000 * b.scale, stockRecords}, {"10 Mbit/s", time.Millisecond, slowLink, 50_000 * b.scale, 10 * stockRecords}} {
		file := filepath.Join(b.dir, "transports.log")
		if err := b.makeLog(file, harness.Make{Seed: 5, Records: l.records, Nodes: []string{"far"}, Start: time.Unix(1763600000, 0), Step: time.Millisecond}); err != nil {
			return err
		}
		base := 0.0
		for _, row := range []struct {
			name    string
			server  serverKind
			records int
			send    func(dir, addr string, port int) (linkRun, error)
		}{
			{"stock → stock", stockServer("sync"), l.stock, func(dir, _ string, port int) (linkRun, error) { return b.sendStock(dir, port, l.stock) }},
			{"ours, tcp → ours", ourServer("sync"), l.records, func(dir, addr string, _ int) (linkRun, error) { return b.sendOurs(dir, addr, file, l.records) }},
			{"ours, grpc → ours", grpcServer(pki), l.records, func(dir, _ string, port int) (linkRun, error) {
				return b.sendOurs(dir, fmt.Sprintf("localhost:%d", port), file, l.records, append([]string{"--transport", "grpc"}, tlsFlags(pki, "far")...)...)
			}},
		} {
			if b.load != "" && !strings.Contains(l.name+": "+row.name, b.load) {
				continue
			}
			var rate, cpu, server, wire []float64
			for range b.rounds {
				r, err := b.overTransport(row.server, l.oneWay, l.rate, row.records, row.send)
				if err != nil {
					b.fail("%s over %s: %v", row.name, l.name, err)
					continue
				}
				progress("%s: %-20s %9s records/s  CPU s/M %5.1f and %5.1f  %5.1f bytes a record", l.name, row.name, count(r.rate), r.cpu, r.server, r.wire)
				rate, cpu, server, wire = append(rate, r.rate), append(cpu, r.cpu), append(server, r.server), append(wire, r.wire)
			}
			if len(rate) == 0 {
				continue
			}
			if base == 0 {
				base = median(rate)
			}
			b.printf("| %s | %s | %s | %s | %.1f | %.1f | %.1f |\n", l.name, row.name, count(median(rate)), times(median(rate)/base), median(cpu), median(server), median(wire))
		}
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	b.printf("\n")
	if b.load != "" {
		return nil
	}
	return b.idle()
}

// overTransport sends over a link. The server's CPU is that until it has stopped.
func (b *bench) overTransport(k serverKind, oneWay time.Duration, rate int64, records int, send func(dir, addr string, port int) (linkRun, error)) (r transportRun, err error) {
	err = b.withServer(k, func(dir, addr string, p *harness.Proc) error {
		proxy, err := harness.NewProxy(addr, oneWay)
		if err != nil {
			return err
		}
		defer proxy.Close()
		proxy.SetRate(rate)
		if r.linkRun, err = send(filepath.Join(dir, "sender"), proxy.Addr(), proxy.Port()); err != nil {
			return err
		}
		r.wire = float64(proxy.Passed()) / float64(records)
		if err := p.Terminate(time.Minute); err != nil {
			return err
		}
		u, err := p.Usage()
		r.server = u.CPU.Seconds() / float64(records) * 1e6
		return err
	})
	return r, err
}

// certificates makes a CA, and certificates of the server and of the host.
func (b *bench) certificates(dir string) error {
	ca := filepath.Join(dir, "ca")
	for _, args := range [][]string{{"ca", "init", "--dir", ca}, {"ca", "issue", "localhost", "--dir", ca, "--out", dir}, {"ca", "issue", "far", "--dir", ca, "--out", dir}} {
		r, err := harness.Run(time.Minute, append([]string{b.bins.Collector}, args...)...)
		if err != nil {
			return err
		}
		if r.Code != 0 {
			return fmt.Errorf("collector %v: exit %d: %s", args, r.Code, r.Stderr)
		}
	}
	return nil
}

func tlsFlags(pki, name string) []string {
	return []string{"--tls-ca", filepath.Join(pki, "ca.crt"), "--tls-cert", filepath.Join(pki, name+".crt"), "--tls-key", filepath.Join(pki, name+".key")}
}

// grpcServer is a collector whose address is that of gRPC.
func grpcServer(pki string) serverKind {
	return serverKind{"ours grpc", func(b *bench, dir string) (string, *harness.Proc, error) {
		port, err := need.FreePort()
		if err != nil {
			return "", nil, err
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		c, err := harness.StartCollector(b.bins, harness.CollectorOptions{Store: dir, Flush: "sync", Args: append([]string{"--grpc", addr}, tlsFlags(pki, "localhost")...)})
		if err != nil {
			return "", nil, err
		}
		return addr, c.Proc, nil
	}}
}

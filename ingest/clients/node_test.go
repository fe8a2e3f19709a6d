package clients

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const terminate = syscall.SIGTERM

// Who is in the password file. Others may connect too, without a name.
const (
	user     = "pump-17"
	password = "correct horse: battery / staple"
)

// A node is the product as it is delivered, in a process of its own. There is no
// Kafka.
type node struct {
	binary, dir string
	cmd         *exec.Cmd
	ports       map[string]int // by transport
	ended       chan error
	log         *os.File
}

// buildProgram builds the program into a directory, and returns its path.
func buildProgram(dir string) (string, error) {
	binary := filepath.Join(dir, "tributary")
	build := exec.Command("go", "build", "-C", "../..", "-o", binary, "./cmd/tributary")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return binary, nil
}

// newNode fills a directory with all that a node needs.
func newNode(binary, dir string) (*node, error) {
	n := &node{binary: binary, dir: dir}
	if err := writeCertificates(dir); err != nil {
		return nil, err
	}
	passwd := exec.Command(n.binary, "passwd", "--create", "-f", n.path("passwd"), user)
	passwd.Stdin = strings.NewReader(password + "\n")
	if out, err := passwd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make the password file: %w\n%s", err, out)
	}
	text := fmt.Sprintf(`
[node]
name = "clients"
data_dir = %q
[mqtt]
listen = ["127.0.0.1:0"]
listen_tls = ["127.0.0.1:0"]
listen_ws = ["127.0.0.1:0"]
listen_wss = ["127.0.0.1:0"]
allow_anonymous = true
password_file = %q
tls_cert_file = %q
tls_key_file = %q
[log]
max_size = "256MiB"
[kafka]
brokers = ["127.0.0.1:1"]
[logging]
format = "json"
level = "debug"
`, n.path("data"), n.path("passwd"), n.path("server.pem"), n.path("server.key"))
	return n, os.WriteFile(n.path("tributary.toml"), []byte(text), 0o600)
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// start runs the program, and returns when devices can connect.
func (n *node) start() error {
	var err error
	if n.log, err = os.OpenFile(n.path("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	n.cmd = exec.Command(n.binary, "run", "-c", n.path("tributary.toml"))
	stderr, err := n.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	addresses, ended := make(chan string, 4), make(chan error, 1)
	n.ended = ended
	go func() {
		in := bufio.NewScanner(stderr)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			fmt.Fprintf(n.log, "%s\n", in.Bytes())
			var line struct{ Msg, Address string }
			if json.Unmarshal(in.Bytes(), &line) == nil && line.Msg == "devices can connect" {
				addresses <- line.Address
			}
		}
		ended <- errors.Join(in.Err(), n.cmd.Wait())
	}()
	n.ports = map[string]int{}
	for _, transport := range []string{tcp, secure, webSocket, secureWeb} { // in the order of the log
		select {
		case a := <-addresses:
			_, port, err := net.SplitHostPort(a)
			if err != nil {
				return err
			}
			if n.ports[transport], err = strconv.Atoi(port); err != nil {
				return err
			}
		case err := <-ended:
			return fmt.Errorf("the node ended at once: %w\n%s", err, n.tail())
		case <-time.After(patience):
			return fmt.Errorf("the node does not listen after %v\n%s", patience, n.tail())
		}
	}
	return nil
}

// stop ends the node as a service manager does. It has to end with code 0.
func (n *node) stop() error { return n.end(terminate) }

// kill ends the node as a power cut does, for what the kernel has not lost.
func (n *node) kill() { _ = n.end(syscall.SIGKILL) }

func (n *node) end(how os.Signal) error {
	if err := n.cmd.Process.Signal(how); err != nil {
		return err
	}
	select {
	case err := <-n.ended:
		return errors.Join(err, n.log.Close())
	case <-time.After(patience):
		return errors.Join(errors.New("the node does not end"), n.cmd.Process.Kill())
	}
}

// tail returns the last lines of the node's log.
func (n *node) tail() string {
	text, err := os.ReadFile(n.path("log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

// options returns how to reach the node.
func (n *node) options(transport string, version int, id string) *options {
	return &options{
		Transport: transport, Host: "127.0.0.1", Port: n.ports[transport], CA: n.path("ca.pem"),
		Version: version, ID: id, Clean: true,
	}
}

// writeCertificates makes an authority, ca.pem, and a certificate of it for this
// machine, server.pem with server.key.
func writeCertificates(dir string) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority for a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caBytes, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return err
	}
	serverBytes, err := x509.CreateCertificate(rand.Reader, server, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name, kind string
		bytes      []byte
	}{
		{"ca.pem", "CERTIFICATE", caBytes}, {"server.pem", "CERTIFICATE", serverBytes}, {"server.key", "PRIVATE KEY", keyBytes},
	} {
		text := pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.bytes})
		if err := os.WriteFile(filepath.Join(dir, f.name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

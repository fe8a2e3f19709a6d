// Package auth decides who may connect, and what they may publish and subscribe to.
//
// It reads Mosquitto's password and ACL files as they are, the names in client
// certificates, and JSON Web Tokens. It opens no socket, starts no goroutine and
// logs nothing.
package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-edge/tributary/ingest/gate"
)

// Credentials are what a CONNECT carries.
type Credentials struct {
	ClientID    string
	Username    string // an empty one counts as none
	HasUsername bool
	Password    []byte            // borrowed for the call; nil: none. A token comes in here too
	Certificate *x509.Certificate // the client's own, verified in the handshake, or nil
	Remote      string            // host without port; only to share the checks fairly
}

// An Identity is who a connection is.
type Identity struct {
	User    string    // "": anonymous
	Expires time.Time // when the certificate or token ends; zero: never

	proof proof // for Stands
}

// The reason codes of a Refusal (MQTT 5, section 3.2.2.2).
const (
	BadClientID   byte = 0x85
	BadCredential byte = 0x86
	NotAuthorized byte = 0x87
	Busy          byte = 0x89
)

// A Refusal is the error of Authenticate.
type Refusal struct { //nolint:errname // a refusal is what MQTT has, and what callers say
	Code byte   // of the CONNACK of MQTT 5
	Why  string // for the log, never for the client: it says which half of a guess was right
}

func (r *Refusal) Error() string { return r.Why }

func refuse(code byte, format string, args ...any) error {
	return &Refusal{Code: code, Why: fmt.Sprintf(format, args...)}
}

// Access is what a client wants to do with a topic.
type Access byte

// The kinds of access.
const (
	Read      Access = 1 // have a message on this topic delivered
	Write     Access = 2 // publish to this topic, or leave a will for it
	Subscribe Access = 4 // subscribe to this filter
)

// Options say which files to read and how to use them. The zero value of a field
// is "not used"; with all fields zero nobody may connect.
type Options struct {
	// AllowAnonymous lets clients in that give no user name. A user name that is
	// given is always checked, unless there is nothing to check it with.
	AllowAnonymous bool
	PasswordFile   string // Mosquitto's password_file; argon2id lines too
	ACLFile        string // Mosquitto's acl_file; once it is set, what it does not give is denied

	CertFile, KeyFile string // ours, for TLS
	ClientCAFile      string // PEM; who may sign the certificates that clients must then have
	CRLFile           string // PEM or DER; certificates that count no more
	CertificateUser   string // which name in a certificate is the user: "cn", "san", or "": none

	JWT JWTOptions

	// ClientIDBinding ties the client id to the user, so that nobody takes the
	// session of another: with "username" they are equal; with "prefix" the client
	// id is the user, or begins with the user and a ':'. A user with a ':' in its
	// name cannot connect then. With either, anonymous clients may only leave the
	// client id empty. An empty one, which the server fills, is always good.
	ClientIDBinding string

	// Gate gives out the places to check tokens and passwords; nil: one of its own.
	Gate *gate.Gate
}

// JWTOptions say which tokens count as a password.
type JWTOptions struct {
	KeysFile  string // public keys: a JWKS, or PEM
	Issuer    string // what iss must be; "": anything
	Audience  string // what aud must have; "": anything
	UserClaim string // the claim that is the user; "": sub
	// Username marks a token: with it, the password must be one. "" takes every
	// password that looks like a token for one. The user is always the claim's.
	Username string
}

// A Guard answers from what it has read of the files. All methods may be called
// from many goroutines at once.
type Guard struct {
	options Options
	checks  *checks // of passwords
	state   atomic.Pointer[state]
	reload  sync.Mutex // one Reload at a time
}

// A state is what the files said at one moment. It does not change, but for the
// cache.
type state struct {
	generation uint64
	passwords  *passwords  // nil: no password_file
	access     *accessList // nil: no acl_file
	keys       []tokenKey  // nil: no tokens
	tls        *trust      // nil: no certificate of ours
	doubts     []string
	verified   *cache
}

// Open reads the files. It fails if any of them is missing or wrong anywhere; the
// error names every wrong file, with the line where there is one.
func Open(o Options) (*Guard, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Gate == nil {
		o.Gate = gate.New(gate.Places())
	}
	g := &Guard{options: o, checks: newChecks()}
	s, err := load(&g.options)
	if err != nil {
		return nil, fmt.Errorf("who may connect is not known, so nobody may: %w", err)
	}
	g.install(s, 1)
	return g, nil
}

// check finds options that were not thought through by the program itself.
func (o *Options) check() error {
	switch {
	case o.CertificateUser != "" && o.CertificateUser != "cn" && o.CertificateUser != "san":
		return fmt.Errorf("CertificateUser is %q, not cn or san", o.CertificateUser)
	case o.ClientIDBinding != "" && o.ClientIDBinding != "username" && o.ClientIDBinding != "prefix":
		return fmt.Errorf("ClientIDBinding is %q, not username or prefix", o.ClientIDBinding)
	case (o.CertFile == "") != (o.KeyFile == ""):
		return errors.New("a certificate needs its key, and a key its certificate")
	case o.ClientCAFile != "" && o.CertFile == "":
		return errors.New("client certificates need TLS, which needs a certificate of ours")
	case (o.CRLFile != "" || o.CertificateUser != "") && o.ClientCAFile == "":
		return errors.New("client certificates need the file of those who may sign them")
	}
	return nil
}

// Reload reads the files again. If any of them is wrong, all that was read before
// stays in force, and the error says which and why. Connections stay as they are;
// see Generation and Stands.
func (g *Guard) Reload() error {
	g.reload.Lock()
	defer g.reload.Unlock()
	s, err := load(&g.options)
	if err != nil {
		return fmt.Errorf("nothing was changed, what was read before stays in force: %w", err)
	}
	g.install(s, g.state.Load().generation+1)
	return nil
}

func (g *Guard) install(s *state, generation uint64) {
	s.generation = generation
	if s.tls != nil {
		s.tls.config.VerifyConnection = func(cs tls.ConnectionState) error { return g.verifyHandshake(s.tls, cs) }
	}
	g.state.Store(s)
}

// load reads every file and returns every error.
func load(o *Options) (*state, error) {
	s := &state{verified: newCache(maxVerified, verifiedFor)}
	var errs [4]error
	if o.PasswordFile != "" {
		s.passwords, errs[0] = loadPasswords(o.PasswordFile)
		s.doubts = append(s.doubts, openToAll(o.PasswordFile)...)
	}
	if o.ACLFile != "" {
		s.access, errs[1] = loadAccess(o.ACLFile)
	}
	if o.JWT.KeysFile != "" {
		s.keys, errs[2] = loadKeys(o.JWT.KeysFile)
	}
	if o.CertFile != "" {
		s.tls, errs[3] = loadTrust(o)
		s.doubts = append(s.doubts, openToAll(o.KeyFile)...)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return s, nil
}

// Generation returns a number that every Reload that succeeds moves. Whoever
// remembers an answer of Allows forgets it when this has moved.
func (g *Guard) Generation() uint64 { return g.state.Load().generation }

// Configured reports whether there is any way for a client to prove who it is.
func (g *Guard) Configured() bool {
	return g.options.PasswordFile != "" || g.options.JWT.KeysFile != "" || g.options.CertificateUser != ""
}

// Doubts returns what is in force and yet worth a look: secrets that every user of
// this machine can read, revocation lists and certificates that are out of date at
// now.
func (g *Guard) Doubts(now time.Time) []string {
	s := g.state.Load()
	return append(slices.Clip(s.doubts), s.tls.outdated(now)...)
}

// Allows reports whether a client may do a with topic. For Read and Write topic is
// a topic name; for Subscribe it is a filter, without its "$share/group/". A
// subscription is refused when it could never deliver anything; one that is
// allowed may still deliver only a part, so Read is asked for each message. Without
// an ACL file all is allowed but writing to topics that begin with '$'. It does not
// allocate unless names are longer than most.
func (g *Guard) Allows(user, clientID string, a Access, topic string) bool {
	if topic == "" {
		return false
	}
	if list := g.state.Load().access; list != nil {
		return list.allows(user, clientID, a, topic)
	}
	return a != Write || topic[0] != '$'
}

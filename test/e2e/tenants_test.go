//go:build linux

package e2e_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/corpus"
)

// tenants are a and b, who share a pool, a registry and the ledger in it. Each has
// repositories of its own, and workers that may use these and the ledger.
type tenants struct {
	pool
	t        *testing.T
	client   *queue.Client
	registry string
	flags    []string
	key      string
	login    map[string]string // DOCKER_CONFIG by user
}

func startTenants(t *testing.T) *tenants {
	t.Helper()
	s := &tenants{t: t, pool: pool{home: t.TempDir()}, key: ledgerKey(t), login: map[string]string{}}
	users := map[string]user{}
	for _, name := range []string{"a", "b"} {
		users[name] = user{"pa55-" + name, []string{name + "/*"}}
		users["worker-"+name] = user{"pa55-worker-" + name, []string{name + "/*", convertjob.DefaultLedgerRepo}}
	}
	s.registry, _ = startTokenRegistry(t, t.TempDir(), users)
	for name, u := range users {
		s.login[name] = dockerConfig(t, name, map[string]string{s.registry: u.password})
	}
	url, seed := startNATS(t)
	s.flags = []string{"--nats", url, "--nkey", seed}
	start(t, s.command(t, program(t, "lithify-scheduler", "../../cmd/scheduler"), s.flags...))
	var err error
	if s.client, err = queue.Connect(t.Context(), queue.Config{URL: url, NkeyFile: seed}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	return s
}

// convert has a worker of the tenant's convert an image, and gives how the job ended.
func (s *tenants) convert(tenant, src, dst string) queue.Status {
	s.t.Helper()
	p := s.pool
	p.env = append(p.env, "DOCKER_CONFIG="+s.login["worker-"+tenant])
	w, _ := p.worker(s.t, "of-"+tenant, append([]string{"--ledger-key", s.key}, s.flags...)...)
	defer w.stop(s.t)
	job, err := jobs.New(convertjob.Args{Source: src, Output: convertjob.Output{Target: dst, Insecure: true, LedgerRepo: convertjob.DefaultLedgerRepo}}, jobs.Options{Tenant: tenant})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.client.Submit(s.t.Context(), job); err != nil {
		s.t.Fatal(err)
	}
	st, err := s.client.Wait(s.t.Context(), job.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

// made is what a job has made, of whom all layers are given.
type made struct {
	Descriptor struct{ Digest digest.Digest }
	Variants   []struct {
		Layers []struct{ Digest digest.Digest }
	}
}

func madeBy(t *testing.T, st queue.Status) (m made) {
	t.Helper()
	if st.State != jobs.Done {
		t.Fatalf("%s is %s: %v", st.ID, st.State, st.Failure)
	}
	if err := json.Unmarshal(st.Result, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// push puts an image into a tenant's repository.
func (s *tenants) push(tenant string, image v1.Image, ref string) {
	s.t.Helper()
	s.t.Setenv("DOCKER_CONFIG", s.login[tenant])
	push(s.t, image, ref)
}

// reads reports whether a user can read a blob in a repository.
func (s *tenants) reads(name, repo string, blob digest.Digest) bool {
	s.t.Helper()
	s.t.Setenv("DOCKER_CONFIG", s.login[name])
	_, err := try(s.t, need(s.t, "crane"), "blob", "--insecure", s.registry+"/"+repo+"@"+blob.String())
	return err == nil
}

// phrases counts what a job's history says.
func (s *tenants) phrases(id jobs.ID) map[string]int {
	s.t.Helper()
	n := map[string]int{}
	for e, err := range s.client.Watch(s.t.Context(), id, 0) {
		if err != nil {
			s.t.Fatal(err)
		}
		n[e.Phrase]++
	}
	return n
}

// borrowed is a registry of b's own, with a's manifest and config. The layer it has
// only by its own word.
type borrowed struct {
	manifest, config []byte
	says             bool   // that it has the layer,
	sends            []byte // and what it sends for it
}

func (b borrowed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/v2/":
	case strings.Contains(r.URL.Path, "/manifests/"):
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		w.Write(b.manifest)
	case strings.HasSuffix(r.URL.Path, digest.FromBytes(b.config).String()):
		w.Write(b.config)
	case b.says && (r.Method == http.MethodHead || b.sends != nil):
		w.Write(b.sends)
	default:
		http.NotFound(w, r)
	}
}

// TestTenantsLayersAreApart has b know all of a's image but the content of its layer.
// What the pool made of that is given to nobody who has not got it.
func TestTenantsLayersAreApart(t *testing.T) {
	s := startTenants(t)
	layer, err := random.Layer(100_000, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	image, err := corpus.Image(corpus.Linux, nil, layer)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := image.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	size, err := layer.Size()
	if err != nil {
		t.Fatal(err)
	}
	s.push("a", image, s.registry+"/a/private:tar")
	blob := madeBy(t, s.convert("a", s.registry+"/a/private:tar", s.registry+"/a/private:erofs")).Variants[0].Layers[0].Digest
	if !s.reads("a", "a/private", blob) {
		t.Fatal("a cannot read its own layer")
	}
	if s.reads("b", "a/private", blob) || s.reads("b", convertjob.DefaultLedgerRepo, blob) {
		t.Fatal("the registry gives everything to everybody")
	}
	for repo, src := range map[string]string{
		"b/asks":     s.registry + "/a/private",
		"b/has-not":  hostOf(serveHTTP(t, borrowed{manifest, config, false, nil})) + "/x",
		"b/says-so":  hostOf(serveHTTP(t, borrowed{manifest, config, true, nil})) + "/x",
		"b/pretends": hostOf(serveHTTP(t, borrowed{manifest, config, true, make([]byte, size)})) + "/x",
	} {
		t.Run(repo, func(t *testing.T) {
			st := s.convert("b", src+":tar", s.registry+"/"+repo+":erofs")
			t.Log(st.Failure)
			if st.State != jobs.Failed {
				t.Errorf("%s is %s: %v", st.ID, st.State, st.Failure)
			}
			if n := s.phrases(st.ID)["layer reused"]; n > 0 {
				t.Errorf("a's layer was reused %d times", n)
			}
			if s.reads("b", repo, blob) {
				t.Errorf("b reads a's layer in %s", repo)
			}
		})
	}
}

// lying says that its tar is another's.
type lying struct{ v1.Layer }

func (lying) DiffID() (v1.Hash, error) { return v1.NewHash("sha256:" + strings.Repeat("0", 64)) }

// TestLyingDiffID has b say of a layer that both have that its tar has another digest.
// That is b's failure, whoever comes first: a's image is converted with the same layer.
func TestLyingDiffID(t *testing.T) {
	for name, order := range map[string]string{"before": "ba", "after": "ab"} {
		t.Run(name, func(t *testing.T) {
			s := startTenants(t)
			shared, err := random.Layer(100_000, types.OCILayer)
			if err != nil {
				t.Fatal(err)
			}
			for tenant, layer := range map[string]v1.Layer{"a": shared, "b": lying{shared}} {
				image, err := corpus.Image(corpus.Linux, nil, layer)
				if err != nil {
					t.Fatal(err)
				}
				s.push(tenant, image, s.registry+"/"+tenant+"/app:tar")
			}
			for _, tenant := range strings.Split(order, "") {
				st := s.convert(tenant, s.registry+"/"+tenant+"/app:tar", s.registry+"/"+tenant+"/app:erofs")
				if tenant == "a" {
					t.Setenv("DOCKER_CONFIG", s.login["a"])
					want := digestOf(convert(t, s.registry+"/a/app:tar", s.registry+"/a/alone:erofs"))
					if got := madeBy(t, st).Descriptor.Digest.String(); got != want {
						t.Errorf("the pool made %s, this process %s", got, want)
					}
					continue
				}
				if st.State != jobs.Failed || st.Attempt != 1 || !strings.Contains(st.Failure.Message, "the config says sha256:000") {
					t.Errorf("b's job is %s at attempt %d: %v", st.State, st.Attempt, st.Failure)
				}
			}
			for _, st := range s.layers(t, s.flags...) {
				if st.State != jobs.Done || st.Attempt != 1 || st.Generation != 1 {
					t.Errorf("layer: %s at attempt %d of generation %d", st.State, st.Attempt, st.Generation)
				}
			}
		})
	}
}

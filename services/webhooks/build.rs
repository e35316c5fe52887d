//! Compiles the crate again when a migration is added.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rustc-env=DOTMAC_MIGRATIONS=tracked");
}

//! What a change makes of the product that is there; the same for every store.

use super::{Changed, ProductChange, ProductPatch};
use crate::catalog::{Product, check_id};

/// What a store has to write for a change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Write {
    /// Nothing.
    Nothing,
    /// A product that was not there.
    Add(Product),
    /// Other values for the product that is there.
    Update(Product),
    /// The product goes.
    Remove,
}

impl ProductChange {
    /// Whose change it is.
    pub fn id(&self) -> &str {
        match self {
            Self::Put(product) => &product.id,
            Self::Patch(patch) => &patch.id,
            Self::Delete(id) => id,
        }
    }

    /// What is to be written where the product is now `there`, and what that is called. In words, why it cannot be.
    pub(crate) fn plan(self, there: Option<Product>) -> Result<(Write, Changed), String> {
        check_id(self.id())?;
        let wanted = match (self, &there) {
            (Self::Put(product), _) => product,
            (Self::Patch(_) | Self::Delete(_), None) => {
                return Ok((Write::Nothing, Changed::Unknown));
            }
            (Self::Patch(patch), Some(there)) => patch.applied(there.clone()),
            (Self::Delete(_), Some(_)) => return Ok((Write::Remove, Changed::Deleted)),
        };
        wanted.check()?;
        Ok(match there {
            None => (Write::Add(wanted), Changed::Added),
            Some(there) if there == wanted => (Write::Nothing, Changed::Unchanged),
            Some(_) => (Write::Update(wanted), Changed::Updated),
        })
    }
}

impl ProductPatch {
    /// `product` with the new values.
    pub fn applied(self, product: Product) -> Product {
        Product {
            name: self.name.unwrap_or(product.name),
            description: self.description.unwrap_or(product.description),
            category: self.category.unwrap_or(product.category),
            brand: self.brand.unwrap_or(product.brand),
            price: self.price.unwrap_or(product.price),
            created_at: self.created_at.unwrap_or(product.created_at),
            popularity: self.popularity.unwrap_or(product.popularity),
            id: product.id,
        }
    }
}
